//! Everything that can be refused.

/// Why a mixer, a plan or a state was refused. After an error nothing has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
    /// A mixer over no task.
    #[error("a mixer needs at least one task; give one or more")]
    NoTasks,
    /// A task without pairs.
    #[error("task {task} has no pairs; give it pairs or leave the task out")]
    EmptyTask {
        /// Index of the task.
        task: usize,
    },
    /// A slice that should hold one value for each task does not.
    #[error("{what} covers {got} tasks but the mixer has {want}")]
    TaskCount {
        /// What the slice is.
        what: &'static str,
        /// Tasks of the mixer.
        want: usize,
        /// Length of what came.
        got: usize,
    },
    /// Two slices over the pairs of a batch differ in length.
    #[error("the batch has {want} pairs but {got} values of excess came")]
    PairCount {
        /// Pairs of the batch.
        want: usize,
        /// Values that came.
        got: usize,
    },
    /// A mean excess that is NaN or infinite.
    #[error("mean excess of task {task} is {value} nats; want a finite value: look for a diverged loss")]
    BadExcess {
        /// Index of the task.
        task: usize,
        /// What came.
        value: f64,
    },
    /// A batch or an update without a single pair.
    #[error("the batch holds no pair; want at least one")]
    EmptyBatch,
    /// A pair of a task that the mixer does not have.
    #[error("pair {pair} of the batch belongs to task {task} but there are {tasks} tasks")]
    UnknownTask {
        /// Position in the batch.
        pair: usize,
        /// The task it names.
        task: usize,
        /// Tasks there are.
        tasks: usize,
    },
    /// Pairs came from a task whose sampling probability was zero, so they cannot be importance weighted.
    #[error(
        "task {task} has sampling probability 0 but {drawn} of its pairs were drawn; draw from `plan().sampling`"
    )]
    ImpossibleDraw {
        /// Index of the task.
        task: usize,
        /// Its pairs in the batch.
        drawn: usize,
    },
    /// A setting outside its range.
    #[error("{name} is {value}; want {want}")]
    BadSetting {
        /// Name of the setting.
        name: &'static str,
        /// What came.
        value: f64,
        /// The range.
        want: &'static str,
    },
    /// A name that no mixer has.
    #[error("no mixer is called `{name}`; there are {known}", known = crate::MixerKind::names())]
    UnknownMixer {
        /// What came.
        name: String,
    },
    /// A mixer that cannot be had by its name alone.
    #[error("mixer `{name}` has no default {missing}; give it")]
    MissingSetting {
        /// Name of the mixer.
        name: &'static str,
        /// The setting without a default.
        missing: &'static str,
    },
    /// A state of another mixer.
    #[error("the state belongs to mixer `{got}` but this is `{want}`; resume with the mixer that wrote it")]
    StateMixer {
        /// This mixer.
        want: &'static str,
        /// The one that wrote the state.
        got: String,
    },
    /// A state of a format that this version does not read.
    #[error("mixer state has version {got}; this build reads version {want}")]
    StateVersion {
        /// The version read.
        want: u32,
        /// The version found.
        got: u32,
    },
    /// A state with a value that no run can have written.
    #[error("field `{field}` of the mixer state is damaged; restore an older checkpoint")]
    StateField {
        /// Name of the field.
        field: &'static str,
    },
}

/// Checks a length against the number of tasks.
pub(crate) fn check_tasks(what: &'static str, want: usize, got: usize) -> Result<(), MixError> {
    if want == got { Ok(()) } else { Err(MixError::TaskCount { what, want, got }) }
}

/// Checks a setting for being finite and not negative.
pub(crate) fn check_not_negative(name: &'static str, value: f64) -> Result<(), MixError> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(MixError::BadSetting { name, value, want: "a finite value >= 0" })
    }
}
