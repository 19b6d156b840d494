//! A kernel ready to run: instructions with every name resolved to a slot, an address or a place in the code.

use super::alu::Compare;
use super::convert::Convert;
use super::lanes::{Args, File, Run, Slot};
use super::syntax::Space;

/// First generic address of the block's shared memory.
pub(crate) const SHARED_WINDOW: u64 = 1 << 32;
/// First generic address of the thread's local memory.
pub(crate) const LOCAL_WINDOW: u64 = 2 << 32;
/// Bytes of either window.
pub(crate) const WINDOW: u64 = 1 << 32;

/// A parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Offset in the parameter buffer.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
    /// Whether the kernel uses it as an address of device memory.
    pub is_pointer: bool,
}

/// A kernel ready to run.
#[derive(Clone)]
pub struct Kernel {
    /// Its name in the PTX text.
    pub name: String,
    /// Its signature.
    pub params: Vec<Param>,
    /// Bytes of the parameter buffer.
    pub param_bytes: usize,
    /// Static shared memory that the kernel declares, in bytes.
    pub shared_bytes: u64,
    /// Local memory of a thread, in bytes.
    pub local_bytes: u64,
    /// Most threads of a block, if the kernel says so (`__launch_bounds__`).
    pub max_threads: Option<u64>,
    /// The only legal block, if the kernel says so.
    pub required: Option<[u64; 3]>,
    pub(crate) code: Vec<Op>,
    pub(crate) words: usize,
    pub(crate) doubles: usize,
    pub(crate) preds: usize,
    pub(crate) word_constants: Vec<(Slot, u32)>,
    pub(crate) double_constants: Vec<(Slot, u64)>,
    pub(crate) pred_constants: Vec<(Slot, bool)>,
    pub(crate) specials: Vec<(Slot, Special)>,
    /// Offsets of the static variables in shared memory, apart from each other by guard zones.
    pub(crate) shared_variables: Vec<(u64, u64)>,
    /// Where dynamic shared memory starts.
    pub(crate) dynamic_at: u64,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("name", &self.name)
            .field("params", &self.params)
            .field("instructions", &self.code.len())
            .finish_non_exhaustive()
    }
}

/// A special register; a number is the axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(u8),
    Block(u8),
    BlockSize(u8),
    GridSize(u8),
    Lane,
    Warp,
    Warps,
    MaskEq,
    MaskLt,
    MaskLe,
    MaskGt,
    MaskGe,
    DynamicShared,
}

impl Special {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let axis = |name: &str| match name {
            "x" => Some(0),
            "y" => Some(1),
            "z" => Some(2),
            _ => None,
        };
        Some(match name.strip_prefix('%')? {
            "laneid" => Self::Lane,
            "warpid" => Self::Warp,
            "nwarpid" => Self::Warps,
            "lanemask_eq" => Self::MaskEq,
            "lanemask_lt" => Self::MaskLt,
            "lanemask_le" => Self::MaskLe,
            "lanemask_gt" => Self::MaskGt,
            "lanemask_ge" => Self::MaskGe,
            "dynamic_smem_size" => Self::DynamicShared,
            name => {
                let (register, suffix) = name.split_once('.')?;
                let axis = axis(suffix)?;
                match register {
                    "tid" => Self::Thread(axis),
                    "ctaid" => Self::Block(axis),
                    "ntid" => Self::BlockSize(axis),
                    "nctaid" => Self::GridSize(axis),
                    _ => return None,
                }
            }
        })
    }
}

/// One instruction.
#[derive(Clone)]
pub(crate) struct Op {
    /// Predicate, and whether it is negated.
    pub(crate) guard: Option<(Slot, bool)>,
    pub(crate) kind: Kind,
    /// Line in the PTX text.
    pub(crate) line: u32,
}

/// How two predicates are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    And,
    Or,
    Xor,
}

/// A load or store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) space: Space,
    /// Bytes of one element: 1, 2, 4 or 8.
    pub(crate) bytes: u8,
    pub(crate) signed: bool,
    /// Elements: 1, 2 or 4.
    pub(crate) count: u8,
    pub(crate) file: File,
    pub(crate) regs: [Slot; 4],
    /// Base register; doubles or words.
    pub(crate) base: (File, Slot),
    pub(crate) offset: i64,
}

/// What an atomic does to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Atomic {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

/// The type an atomic works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicType {
    Unsigned,
    Signed,
    Float,
}

/// Which lane a shuffle reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What a vote computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// What a warp-wide reduction computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduce {
    Add,
    MinUnsigned,
    MinSigned,
    MaxUnsigned,
    MaxSigned,
    And,
    Or,
    Xor,
}

/// What a block-wide barrier computes on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierReduce {
    None,
    Count,
    And,
    Or,
}

/// A convergence instruction of a warp: all lanes of its mask run it together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Together {
    Shuffle { mode: Shuffle, d: Slot, valid: Option<Slot>, a: Slot, b: Slot, c: Slot },
    Vote { mode: Vote, d: Slot, p: Slot, negated: bool },
    Reduce { mode: Reduce, d: Slot, a: Slot },
    MatchAny { d: Slot, a: Slot, file: File },
    Sync,
}

impl Together {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Shuffle { .. } => "shfl.sync",
            Self::Vote { .. } => "vote.sync",
            Self::Reduce { .. } => "redux.sync",
            Self::MatchAny { .. } => "match.any.sync",
            Self::Sync => "bar.warp.sync",
        }
    }
}

/// What an instruction does.
#[derive(Clone)]
pub(crate) enum Kind {
    Alu {
        run: Run,
        x: Args,
    },
    Convert {
        how: Convert,
        x: Args,
    },
    Compare {
        run: Compare,
        a: Slot,
        b: Slot,
        d: Slot,
        not: Option<Slot>,
        with: Option<(Combine, Slot, bool)>,
    },
    Lop3 {
        x: Args,
        table: u32,
    },
    Insert {
        file: File,
        d: Slot,
        a: Slot,
        b: Slot,
        pos: Slot,
        len: Slot,
    },
    /// One register from `count` of `bits` bits each, lowest first.
    Pack {
        wide: (File, Slot),
        narrow: [Slot; 4],
        count: u8,
        bits: u8,
    },
    Unpack {
        wide: (File, Slot),
        narrow: [Slot; 4],
        count: u8,
        bits: u8,
    },
    Load(Access),
    Store(Access),
    Atomic {
        access: Access,
        op: Atomic,
        ty: AtomicType,
        d: Option<Slot>,
        b: Slot,
        c: Slot,
    },
    ActiveMask {
        d: Slot,
    },
    Together {
        what: Together,
        mask: Slot,
    },
    Barrier {
        id: Slot,
        reduce: BarrierReduce,
        d: Slot,
        p: Slot,
        negated: bool,
    },
    Branch {
        target: u32,
    },
    BranchTable {
        index: Slot,
        targets: Box<[u32]>,
    },
    /// A place where several paths may meet; does nothing.
    Join,
    Nothing,
    Exit,
    Trap,
}
