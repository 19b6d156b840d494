//! The text of a kernel, and what a scan of it tells: names and launch bounds of its `__global__` functions.

/// A part of a translation unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// File name, for messages.
    pub name: String,
    /// CUDA C++17.
    pub text: String,
}

/// A `__global__` function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Most threads of a block, if `__launch_bounds__` says so with a plain number.
    pub(crate) most_threads: Option<u32>,
}

impl Source {
    /// A source of that name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Kernels in order of their appearance. Knows `//` comments, and no other way to hide a `__global__`.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut code = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            code.push_str(line.split("//").next().unwrap_or_default());
            code.push('\n');
        }
        code.split("__global__").skip(1).filter_map(entry).collect()
    }
}

/// The function whose declaration goes on with `rest`.
fn entry(rest: &str) -> Option<Entry> {
    let mut rest = rest.trim_start();
    let mut most_threads = None;
    loop {
        if let Some(after) = rest.strip_prefix("void") {
            rest = after.trim_start();
        } else if let Some(after) = rest.strip_prefix("__launch_bounds__") {
            let (inside, after) = after.trim_start().strip_prefix('(')?.split_once(')')?;
            most_threads = inside.split(',').next().and_then(|bound| bound.trim().parse().ok());
            rest = after.trim_start();
        } else {
            break;
        }
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    (end > 0).then(|| Entry { name: rest[..end].to_owned(), most_threads })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_with_their_bounds() {
        let source = Source::new(
            "a.cu",
            "// a __global__ void no(int)\nextern \"C\" __global__ void __launch_bounds__(512)\n    one(float* x) {}\n\
             extern \"C\" __global__ void two(int n) {}\n\
             extern \"C\" __launch_bounds__(64) __global__ void __launch_bounds__(128, 2) three() {}",
        );
        let entry = |name: &str, most_threads| Entry { name: name.to_owned(), most_threads };
        assert_eq!(
            source.entries(),
            [entry("one", Some(512)), entry("two", None), entry("three", Some(128))]
        );
    }
}
