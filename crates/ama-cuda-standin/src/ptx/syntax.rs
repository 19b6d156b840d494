//! PTX text to statements: declarations, labels and instructions, names still unresolved.

use crate::errors::Fault;

/// A word, number or punctuation mark, and the line it stands on.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: u32,
}

/// State space of a variable or access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Global,
    Const,
    Shared,
    Local,
    Param,
    Generic,
}

/// A variable with room in memory.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) space: Space,
    pub(crate) name: String,
    pub(crate) align: u64,
    /// Zero for a dynamic array (`extern .shared x[]`).
    pub(crate) bytes: u64,
    /// First bytes; the rest are zero. Empty where nothing is said.
    pub(crate) init: Vec<u8>,
}

/// An operand of an instruction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// Register, variable, label or special register.
    Name(String),
    /// Two results, as in `%r1|%p1`.
    Pair(String, String),
    /// Negated predicate source.
    Not(String),
    /// Integer.
    Int(i128),
    /// Bits of an `f32`.
    Single(u32),
    /// Bits of an `f64`.
    Double(u64),
    /// `[base + offset]`.
    Address { base: Option<String>, offset: i64 },
    /// `{a, b, ...}`.
    Vector(Vec<Operand>),
    /// `(a, b, ...)` of a call.
    List(Vec<Operand>),
}

/// An instruction.
#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    pub(crate) line: u32,
    /// Predicate, and whether it is negated.
    pub(crate) guard: Option<(String, bool)>,
    pub(crate) name: String,
    pub(crate) operands: Vec<Operand>,
}

/// One statement of a function body.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Open,
    Close,
    Label(String),
    /// Type, name, and how many of a numbered family (`%r<n>`), if it is one.
    Registers {
        ty: String,
        name: String,
        count: Option<u32>,
        line: u32,
    },
    Variable(Variable),
    Instruction(Instruction),
    /// A labelled table of branch targets.
    Targets {
        name: String,
        labels: Vec<String>,
    },
}

/// A function or kernel.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) is_kernel: bool,
    pub(crate) results: Vec<Variable>,
    pub(crate) params: Vec<Variable>,
    /// `.maxntid`, as a number of threads.
    pub(crate) max_threads: Option<u64>,
    /// `.reqntid`.
    pub(crate) required: Option<[u64; 3]>,
    /// `None` for a declaration.
    pub(crate) body: Option<Vec<Statement>>,
}

/// A PTX text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    /// `.version` times ten.
    pub(crate) version: u32,
    pub(crate) target: String,
    pub(crate) variables: Vec<Variable>,
    pub(crate) functions: Vec<Function>,
}

struct Parser<'a> {
    lines: Vec<&'a str>,
    tokens: Vec<Token<'a>>,
    at: usize,
}

/// Parses a PTX text.
///
/// # Errors
/// [`Fault::Ptx`] with the line, for anything that is not understood.
pub(crate) fn parse(text: &str) -> Result<Text, Fault> {
    let lines: Vec<&str> = text.lines().collect();
    let mut parser = Parser { tokens: tokens(&lines)?, lines, at: 0 };
    parser.text()
}

fn fault(lines: &[&str], line: u32, what: impl Into<String>) -> Fault {
    let text = lines.get(line.saturating_sub(1) as usize).map_or("", |l| l.trim());
    Fault::Ptx { line, what: what.into(), text: text.to_string() }
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn tokens<'a>(lines: &[&'a str]) -> Result<Vec<Token<'a>>, Fault> {
    let mut found = Vec::new();
    let mut comment = false;
    for (text, line) in lines.iter().zip(1..) {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            let start = i;
            if comment {
                match text[i..].find("*/") {
                    Some(end) => (comment, i) = (false, i + end + 2),
                    None => break,
                }
            } else if text[i..].starts_with("//") {
                break;
            } else if text[i..].starts_with("/*") {
                (comment, i) = (true, i + 2);
            } else if bytes[i].is_ascii_whitespace() {
                i += 1;
            } else {
                if bytes[i] == b'"' {
                    let end =
                        text[i + 1..].find('"').ok_or_else(|| fault(lines, line, "string without end"))?;
                    i += end + 2;
                } else if is_word(bytes[i]) {
                    // `::` belongs to a cache hint (`L1::no_allocate`), a single colon ends a label.
                    while i < bytes.len() && (is_word(bytes[i]) || text[i..].starts_with("::")) {
                        i += if bytes[i] == b':' { 2 } else { 1 };
                    }
                } else if bytes[i].is_ascii_punctuation() {
                    i += 1;
                } else {
                    return Err(fault(lines, line, "character that PTX does not know"));
                }
                found.push(Token { text: &text[start..i], line });
            }
        }
    }
    Ok(found)
}

impl<'a> Parser<'a> {
    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err(fault(&self.lines, self.line(), what))
    }

    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|t| t.text)
    }

    fn next(&mut self) -> Result<&'a str, Fault> {
        let Some(token) = self.tokens.get(self.at) else { return self.fail("text ends too early") };
        self.at += 1;
        Ok(token.text)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), Fault> {
        if self.take(text) { Ok(()) } else { self.fail(format!("expected `{text}`")) }
    }

    fn skip_past(&mut self, end: &str) -> Result<(), Fault> {
        while self.next()? != end {}
        Ok(())
    }

    fn number(&mut self) -> Result<u64, Fault> {
        let word = self.next()?;
        match integer(word).and_then(|n| u64::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => {
                self.at -= 1;
                self.fail("expected a number")
            }
        }
    }

    fn text(&mut self) -> Result<Text, Fault> {
        let mut text = Text::default();
        while let Some(word) = self.peek() {
            match word {
                ".version" => {
                    self.at += 1;
                    let version = self.next()?;
                    let parts =
                        version.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                    let Some((major, minor)): Option<(u32, u32)> = parts else {
                        return self.fail("expected a version like 8.0");
                    };
                    text.version = major * 10 + minor;
                }
                ".target" => {
                    self.at += 1;
                    text.target = self.next()?.to_string();
                    while self.take(",") {
                        self.at += 1;
                    }
                }
                ".address_size" => {
                    self.at += 1;
                    if self.number()? != 64 {
                        return self.fail("only 64-bit addresses are known");
                    }
                }
                ".file" => {
                    let line = self.line();
                    while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
                        self.at += 1;
                    }
                }
                ".section" => {
                    self.skip_past("{")?;
                    self.skip_past("}")?;
                }
                ".visible" | ".extern" | ".weak" | ".common" => self.at += 1,
                ".entry" | ".func" => {
                    self.at += 1;
                    let function = self.function(word == ".entry")?;
                    text.functions.push(function);
                }
                ".global" | ".const" | ".shared" => {
                    let variable = self.variable()?;
                    self.expect(";")?;
                    text.variables.push(variable);
                }
                _ => return self.fail("directive that the interpreter does not know"),
            }
        }
        if text.version == 0 || text.target.is_empty() {
            return self.fail("no .version or no .target: this is not PTX");
        }
        Ok(text)
    }

    /// `.space .align n .type name[n] = {...}`, without the semicolon.
    fn variable(&mut self) -> Result<Variable, Fault> {
        let space = match self.next()? {
            ".global" => Space::Global,
            ".const" => Space::Const,
            ".shared" => Space::Shared,
            ".local" => Space::Local,
            ".param" => Space::Param,
            _ => {
                self.at -= 1;
                return self.fail("expected a state space");
            }
        };
        let (mut align, mut size, mut pointer) = (0, 0, false);
        loop {
            let word = self.next()?;
            match word {
                // Behind `.ptr` stands the alignment of what the pointer points to.
                ".align" => {
                    let n = self.number()?;
                    align = if pointer { align } else { n };
                }
                ".ptr" => pointer = true,
                ".global" | ".shared" | ".local" | ".const" | ".managed" => {}
                ".v2" | ".v4" => return self.fail("vector variables are not known"),
                _ if word.starts_with('.') => match type_bytes(&word[1..]) {
                    Some(bytes) => size = bytes,
                    None => return self.fail(format!("type `{word}` is not known")),
                },
                _ => {
                    self.at -= 1;
                    break;
                }
            }
        }
        let name = self.next()?.to_string();
        if size == 0 {
            return self.fail("variable without a type");
        }
        let element = size;
        let mut bytes = element;
        while self.take("[") {
            bytes *= if self.peek() == Some("]") { 0 } else { self.number()? };
            self.expect("]")?;
        }
        let mut init = Vec::new();
        if self.take("=") {
            let braced = self.take("{");
            loop {
                let negative = self.take("-");
                let word = self.next()?;
                let value = match literal(word) {
                    Some(Operand::Int(n)) => (if negative { -n } else { n }) as u64,
                    Some(Operand::Single(bits)) => u64::from(bits),
                    Some(Operand::Double(bits)) => bits,
                    _ => return self.fail("initial values other than numbers are not known"),
                };
                init.extend_from_slice(&value.to_le_bytes()[..element as usize]);
                if !braced || !self.take(",") {
                    break;
                }
            }
            if braced {
                self.expect("}")?;
            }
        }
        Ok(Variable { space, name, align: align.max(element), bytes, init })
    }

    fn params(&mut self) -> Result<Vec<Variable>, Fault> {
        let mut found = Vec::new();
        if self.take("(") {
            while !self.take(")") {
                found.push(self.variable()?);
                self.take(",");
            }
        }
        Ok(found)
    }

    fn function(&mut self, is_kernel: bool) -> Result<Function, Fault> {
        let results = if is_kernel { Vec::new() } else { self.params()? };
        let name = self.next()?.to_string();
        let params = self.params()?;
        let mut function =
            Function { name, is_kernel, results, params, max_threads: None, required: None, body: None };
        loop {
            match self.next()? {
                ";" => return Ok(function),
                ".noreturn" => {}
                ".maxntid" => function.max_threads = Some(self.extents()?.iter().product()),
                ".reqntid" => function.required = Some(self.extents()?),
                ".minnctapersm" | ".maxnreg" => {
                    self.number()?;
                }
                "{" => break,
                _ => {
                    self.at -= 1;
                    return self.fail("kernel directive that the interpreter does not know");
                }
            }
        }
        let mut body = Vec::new();
        let mut depth = 1;
        loop {
            match self.peek() {
                Some("{") => {
                    depth += 1;
                    body.push(Statement::Open);
                    self.at += 1;
                }
                Some("}") => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                    body.push(Statement::Close);
                }
                _ => self.statement(&mut body)?,
            }
        }
        function.body = Some(body);
        Ok(function)
    }

    fn extents(&mut self) -> Result<[u64; 3], Fault> {
        let mut extents = [self.number()?, 1, 1];
        for extent in &mut extents[1..] {
            if self.take(",") {
                *extent = self.number()?;
            }
        }
        Ok(extents)
    }

    fn statement(&mut self, body: &mut Vec<Statement>) -> Result<(), Fault> {
        let line = self.line();
        let word = self.next()?;
        match word {
            ";" => {}
            ".reg" => {
                let ty = self.next()?.trim_start_matches('.').to_string();
                loop {
                    let name = self.next()?.to_string();
                    let count = if self.take("<") {
                        let n = self.number()?;
                        self.expect(">")?;
                        Some(n as u32)
                    } else {
                        None
                    };
                    body.push(Statement::Registers { ty: ty.clone(), name, count, line });
                    if !self.take(",") {
                        break;
                    }
                }
                self.expect(";")?;
            }
            ".shared" | ".local" | ".param" | ".global" | ".const" => {
                self.at -= 1;
                body.push(Statement::Variable(self.variable()?));
                self.expect(";")?;
            }
            ".loc" => {
                while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
                    self.at += 1;
                }
            }
            ".pragma" => self.skip_past(";")?,
            _ if self.peek() == Some(":") => {
                self.at += 1;
                match self.peek() {
                    Some(".branchtargets") => {
                        self.at += 1;
                        let mut labels = vec![self.next()?.to_string()];
                        while self.take(",") {
                            labels.push(self.next()?.to_string());
                        }
                        self.expect(";")?;
                        body.push(Statement::Targets { name: word.to_string(), labels });
                    }
                    _ => body.push(Statement::Label(word.to_string())),
                }
            }
            _ if word.starts_with('.') => {
                self.at -= 1;
                return self.fail("directive that the interpreter does not know");
            }
            _ => {
                self.at -= 1;
                let instruction = self.instruction()?;
                body.push(Statement::Instruction(instruction));
            }
        }
        Ok(())
    }

    fn instruction(&mut self) -> Result<Instruction, Fault> {
        let line = self.line();
        let guard = if self.take("@") {
            let negated = self.take("!");
            Some((self.next()?.to_string(), negated))
        } else {
            None
        };
        let name = self.next()?.to_string();
        let mut operands = Vec::new();
        while !self.take(";") {
            operands.push(self.operand()?);
            if !self.take(",") {
                self.expect(";")?;
                break;
            }
        }
        Ok(Instruction { line, guard, name, operands })
    }

    fn operand(&mut self) -> Result<Operand, Fault> {
        let word = self.next()?;
        Ok(match word {
            "!" => Operand::Not(self.next()?.to_string()),
            "-" => match literal(self.next()?) {
                Some(Operand::Int(n)) => Operand::Int(-n),
                _ => return self.fail("expected an integer after `-`"),
            },
            "{" => Operand::Vector(self.sequence("}")?),
            "(" => Operand::List(self.sequence(")")?),
            "[" => {
                let mut base = None;
                let mut offset = 0i64;
                let mut negative = false;
                while !self.take("]") {
                    match self.next()? {
                        "+" => {}
                        "-" => negative = !negative,
                        word => match integer(word) {
                            Some(n) => {
                                offset += (if negative { -n } else { n }) as i64;
                                negative = false;
                            }
                            None if base.is_none() => base = Some(word.to_string()),
                            None => return self.fail("address with two names"),
                        },
                    }
                }
                Operand::Address { base, offset }
            }
            _ => match literal(word) {
                Some(value) => value,
                None if self.take("|") => Operand::Pair(word.to_string(), self.next()?.to_string()),
                None if word.starts_with(is_name_start) => Operand::Name(word.to_string()),
                None => {
                    self.at -= 1;
                    return self.fail("operand that the interpreter does not know");
                }
            },
        })
    }

    fn sequence(&mut self, end: &str) -> Result<Vec<Operand>, Fault> {
        let mut found = Vec::new();
        while !self.take(end) {
            found.push(self.operand()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(found)
    }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '%' | '$' | '_')
}

fn integer(word: &str) -> Option<i128> {
    let word = word.strip_suffix('U').unwrap_or(word);
    if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        i128::from_str_radix(hex, 16).ok()
    } else {
        word.parse().ok()
    }
}

fn literal(word: &str) -> Option<Operand> {
    if let Some(hex) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 8).map(Operand::Single);
    }
    if let Some(hex) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return u64::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 16).map(Operand::Double);
    }
    integer(word).map(Operand::Int)
}

/// Bytes of a type named without its dot; `None` for types that have no room in memory or are not known.
pub(crate) fn type_bytes(ty: &str) -> Option<u64> {
    Some(match ty {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        _ => return None,
    })
}
