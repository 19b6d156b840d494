//! The C++ compiler at hand, and what it makes of a kernel's text.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{EmulatorError, Source};

const HOST_HEADER: &str = include_str!("cpp/cuda_host.h");
const SANITIZERS: &str = include_str!("cpp/sanitizers.h");
const CONTEXT_SWITCH: &str = include_str!("cpp/context_switch.h");
const EMULATOR: &str = include_str!("cpp/emulator.cpp");

/// A checker that the compiler builds into the kernels. Its runtime has to be in `LD_PRELOAD` when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sanitizer {
    /// AddressSanitizer and UndefinedBehaviorSanitizer: every byte read or written, and every operation C++ does not define.
    Address,
    /// ThreadSanitizer: two CUDA threads at one address, of which one writes, with no barrier between.
    Thread,
}

impl Sanitizer {
    /// File name of the runtime as the compiler knows it (`c++ -print-file-name=NAME`).
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Address => "libasan.so",
            Self::Thread => "libtsan.so",
        }
    }

    /// Flags for the kernels.
    fn instrument(self) -> &'static [&'static str] {
        match self {
            Self::Address => &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
            Self::Thread => &["-fsanitize=thread"],
        }
    }

    /// Flag for the emulator, which is not instrumented.
    fn define(self) -> &'static str {
        match self {
            Self::Address => "-DEMULATOR_ADDRESS",
            Self::Thread => "-DEMULATOR_THREAD",
        }
    }
}

/// A C++17 compiler.
#[derive(Debug, Clone)]
pub struct Compiler {
    program: String,
    version: String,
}

impl Compiler {
    /// `$CXX`, or the first of `c++`, `g++` and `clang++` that answers.
    pub fn find() -> Option<Self> {
        let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
        let usual = ["c++", "g++", "clang++"].map(str::to_owned);
        named.into_iter().chain(usual).find_map(|program| {
            let output = Command::new(&program).arg("--version").output().ok()?;
            output.status.success().then(|| {
                let version = String::from_utf8_lossy(&output.stdout).into_owned();
                Self { program, version }
            })
        })
    }

    /// First line of what the compiler says about itself.
    pub fn version(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// The shared library of `sources`, in `folder`; one that is there already is used again.
    pub(crate) fn build(
        &self,
        sanitizer: Option<Sanitizer>,
        sources: &[Source],
        folder: &Path,
    ) -> Result<PathBuf, EmulatorError> {
        let mut unit = String::from("#include \"cuda_host.h\"\n");
        for source in sources {
            unit.push_str(&format!("#line 1 \"{}\"\n{}\n", source.name, source.text));
        }
        for entry in sources.iter().flat_map(Source::entries) {
            unit.push_str(&format!("REGISTER_KERNEL({});\n", entry.name));
        }
        let name = sources.last().map_or("nothing", |source| source.name.as_str());

        // Of what is not instrumented the sanitizers need nothing; a kernel is slow enough without `-O0`.
        let common = ["-std=c++17", "-O1", "-g1", "-fPIC", "-ffp-contract=off", "-w", "-c"];
        let emulator: Vec<&str> = common.into_iter().chain(sanitizer.map(Sanitizer::define)).collect();
        let kernels: Vec<&str> = common
            .into_iter()
            .chain(sanitizer.into_iter().flat_map(|s| s.instrument().iter().copied()))
            .collect();

        let header =
            folder.join(format!("include-{:016x}", hash(&[HOST_HEADER, SANITIZERS, CONTEXT_SWITCH])));
        let include = format!("-I{}", header.display());
        for (file, text) in
            [("cuda_host.h", HOST_HEADER), ("sanitizers.h", SANITIZERS), ("context_switch.h", CONTEXT_SWITCH)]
        {
            let path = header.join(file);
            if !path.exists() {
                write(&path, text)?;
            }
        }
        let emulator =
            self.object("emulator.cpp", EMULATOR, emulator.into_iter().chain([include.as_str()]), folder)?;
        let kernels = self.object(name, &unit, kernels.into_iter().chain([include.as_str()]), folder)?;
        let library = folder.join(format!(
            "kernels-{:016x}.so",
            hash(&["link 2", &kernels.display().to_string(), &emulator.display().to_string()])
        ));
        if !library.exists() {
            let to = fresh(&library);
            let mut link = Command::new(&self.program);
            link.arg("-shared").arg("-o").arg(&to).arg(&emulator).arg(&kernels);
            link.args(sanitizer.map_or(&[][..], Sanitizer::instrument));
            self.run(&mut link, name)?;
            rename(&to, &library)?;
        }
        Ok(library)
    }

    /// The object file of one translation unit.
    fn object<'a>(
        &self,
        name: &str,
        text: &str,
        flags: impl Iterator<Item = &'a str>,
        folder: &Path,
    ) -> Result<PathBuf, EmulatorError> {
        let flags: Vec<&str> = flags.collect();
        let key = hash(&[&self.program, &self.version, &flags.join(" "), text]);
        let object = folder.join(format!("{name}-{key:016x}.o"));
        if object.exists() {
            return Ok(object);
        }
        let source = object.with_extension("cpp");
        write(&source, text)?;
        let to = fresh(&object);
        let mut compile = Command::new(&self.program);
        compile.args(flags).arg("-o").arg(&to).arg(&source);
        self.run(&mut compile, name)?;
        rename(&to, &object)?;
        Ok(object)
    }

    fn run(&self, command: &mut Command, name: &str) -> Result<(), EmulatorError> {
        // The compiler is not the one to be sanitized.
        command.env_remove("LD_PRELOAD");
        let output = command
            .output()
            .map_err(|source| EmulatorError::Start { program: self.program.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(EmulatorError::Compile { name: name.to_owned(), log })
    }
}

/// A hash that is the same in every process of one build of this crate.
fn hash(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// A name beside `path` that nobody else uses.
fn fresh(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Writes through a temporary name: tests of several processes build the same thing at the same time.
fn write(path: &Path, text: &str) -> Result<(), EmulatorError> {
    let failed = |source| EmulatorError::Folder { path: path.to_path_buf(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let to = fresh(path);
    fs::write(&to, text).map_err(failed)?;
    rename(&to, path)
}

fn rename(from: &Path, to: &Path) -> Result<(), EmulatorError> {
    fs::rename(from, to).map_err(|source| EmulatorError::Folder { path: to.to_path_buf(), source })
}
