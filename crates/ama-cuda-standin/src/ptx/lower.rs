//! Statements to instructions: names become slots, addresses and places in the code; calls are inlined.

use std::collections::HashMap;

use super::lanes::{File, Slot};
use super::program::{Kernel, Kind, LOCAL_WINDOW, Op, Param, SHARED_WINDOW, Special};
use super::syntax::{Function, Instruction, Operand, Space, Statement, Text, Variable, type_bytes};
use crate::errors::Fault;

/// Bytes between variables in shared memory that belong to none, so that running off one is seen.
const GUARD: u64 = 64;
/// Calls deeper than this are taken for recursion, which inlining cannot follow.
const DEEPEST: usize = 16;

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Register(File, Slot),
    /// Address of a variable in its space.
    Variable(Space, u64),
}

/// State of the lowering of one kernel.
pub(crate) struct Lower<'t> {
    text: &'t Text,
    source: Vec<&'t str>,
    scopes: Vec<HashMap<String, Meaning>>,
    /// Where each label lies in the code; branches hold its number until the end.
    places: Vec<Option<u32>>,
    /// Labels of the function being lowered, and where its `ret` goes.
    labels: Vec<HashMap<String, u32>>,
    tables: Vec<HashMap<String, Vec<String>>>,
    returns: Vec<Option<u32>>,
    words: HashMap<u32, Slot>,
    doubles: HashMap<u64, Slot>,
    preds: HashMap<bool, Slot>,
    specials: HashMap<Special, Slot>,
    /// Which parameter a 64-bit register was loaded from.
    loaded: HashMap<Slot, usize>,
    local: u64,
    shared: u64,
    line: u32,
    pub(crate) kernel: Kernel,
}

/// Lowers the kernel `function`; `globals` are the addresses of the module's variables.
///
/// # Errors
/// [`Fault::Ptx`] for a name or an instruction that is not known.
pub(crate) fn lower(
    text: &Text,
    source: &str,
    function: &Function,
    globals: &HashMap<String, u64>,
) -> Result<Kernel, Fault> {
    let mut outer = HashMap::new();
    for variable in &text.variables {
        if let Some(&address) = globals.get(&variable.name) {
            outer.insert(variable.name.clone(), Meaning::Variable(variable.space, address));
        }
    }
    let mut params = Vec::new();
    let mut offset = 0u64;
    for param in &function.params {
        offset = offset.next_multiple_of(param.align);
        outer.insert(param.name.clone(), Meaning::Variable(Space::Param, offset));
        params.push(Param { offset: offset as usize, bytes: param.bytes as usize, is_pointer: false });
        offset += param.bytes;
    }
    let kernel = Kernel {
        name: function.name.clone(),
        params,
        param_bytes: offset as usize,
        shared_bytes: 0,
        local_bytes: 0,
        max_threads: function.max_threads,
        required: function.required,
        code: Vec::new(),
        words: 0,
        doubles: 0,
        preds: 0,
        word_constants: Vec::new(),
        double_constants: Vec::new(),
        pred_constants: Vec::new(),
        specials: Vec::new(),
        shared_variables: Vec::new(),
        dynamic_at: 0,
    };
    let mut lower = Lower {
        text,
        source: source.lines().collect(),
        scopes: vec![outer],
        places: Vec::new(),
        labels: Vec::new(),
        tables: Vec::new(),
        returns: Vec::new(),
        words: HashMap::new(),
        doubles: HashMap::new(),
        preds: HashMap::new(),
        specials: HashMap::new(),
        loaded: HashMap::new(),
        local: 0,
        shared: 0,
        line: 0,
        kernel,
    };
    lower.shared_variables(function)?;
    lower.body(function, None)?;
    lower.finish()
}

impl<'t> Lower<'t> {
    pub(crate) fn fail<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        let text = self.source.get(self.line.saturating_sub(1) as usize).map_or("", |l| l.trim());
        Err(Fault::Ptx { line: self.line, what: what.into(), text: text.to_string() })
    }

    /// Static variables first, dynamic memory behind them, whatever the order of declaration.
    fn shared_variables(&mut self, function: &'t Function) -> Result<(), Fault> {
        let inner = function.body.iter().flatten().filter_map(|s| match s {
            Statement::Variable(v) => Some(v),
            _ => None,
        });
        let all: Vec<&Variable> =
            self.text.variables.iter().chain(inner).filter(|v| v.space == Space::Shared).collect();
        let mut exact = 0u64;
        for variable in all.iter().filter(|v| v.bytes > 0) {
            if variable.bytes > 1 << 20 {
                return self.fail(format!("{} bytes of shared memory", variable.bytes));
            }
            let start = self.shared.next_multiple_of(variable.align);
            exact = exact.next_multiple_of(variable.align) + variable.bytes;
            self.kernel.shared_variables.push((start, start + variable.bytes));
            self.scopes[0].insert(variable.name.clone(), Meaning::Variable(Space::Shared, start));
            self.shared = start + variable.bytes + GUARD;
        }
        self.kernel.shared_bytes = exact;
        self.kernel.dynamic_at = self.shared.next_multiple_of(128);
        for variable in all.iter().filter(|v| v.bytes == 0) {
            let at = Meaning::Variable(Space::Shared, self.kernel.dynamic_at);
            self.scopes[0].insert(variable.name.clone(), at);
        }
        Ok(())
    }

    /// Lowers a function's statements; `back` is the label that its `ret` goes to.
    fn body(&mut self, function: &'t Function, back: Option<u32>) -> Result<(), Fault> {
        let Some(body) = &function.body else {
            return self.fail(format!("call of {}, which has no body in this text", function.name));
        };
        if self.returns.len() >= DEEPEST {
            return self.fail(format!("calls nested deeper than {DEEPEST}: recursion is not known"));
        }
        self.scopes.push(HashMap::new());
        self.labels.push(HashMap::new());
        self.tables.push(HashMap::new());
        self.returns.push(back);
        let depth = self.scopes.len();
        for statement in body {
            match statement {
                Statement::Label(name) => {
                    let number = self.label();
                    self.here().insert(name.clone(), number);
                }
                Statement::Targets { name, labels } => {
                    if let Some(tables) = self.tables.last_mut() {
                        tables.insert(name.clone(), labels.clone());
                    }
                }
                _ => {}
            }
        }
        for statement in body {
            match statement {
                Statement::Open => self.scopes.push(HashMap::new()),
                Statement::Close => {
                    self.scopes.pop();
                }
                Statement::Registers { ty, name, count, line } => self.registers(ty, name, *count, *line)?,
                Statement::Variable(variable) => self.variable(variable)?,
                Statement::Targets { .. } => {}
                Statement::Label(name) => {
                    let number = self.here()[name];
                    self.place(number);
                }
                Statement::Instruction(instruction) => {
                    self.line = instruction.line;
                    let guard = match &instruction.guard {
                        Some((name, negated)) => Some((self.named(name, File::Pred)?, *negated)),
                        None => None,
                    };
                    self.instruction(instruction, guard)?;
                }
            }
        }
        // Falling off the end returns.
        self.leave(None);
        self.scopes.truncate(depth - 1);
        self.labels.pop();
        self.tables.pop();
        self.returns.pop();
        Ok(())
    }

    fn here(&mut self) -> &mut HashMap<String, u32> {
        self.labels.last_mut().expect("a function is being lowered")
    }

    fn label(&mut self) -> u32 {
        self.places.push(None);
        self.places.len() as u32 - 1
    }

    fn place(&mut self, label: u32) {
        self.places[label as usize] = Some(self.kernel.code.len() as u32);
        self.emit(None, Kind::Join);
    }

    pub(crate) fn emit(&mut self, guard: Option<(Slot, bool)>, kind: Kind) {
        self.kernel.code.push(Op { guard, kind, line: self.line });
    }

    /// `ret`: to the caller, or the end of the thread.
    pub(crate) fn leave(&mut self, guard: Option<(Slot, bool)>) {
        match self.returns.last().copied().flatten() {
            Some(target) => self.emit(guard, Kind::Branch { target }),
            None => self.emit(guard, Kind::Exit),
        }
    }

    /// Number of the label called `name`.
    pub(crate) fn target(&mut self, name: &str) -> Result<u32, Fault> {
        match self.here().get(name) {
            Some(&number) => Ok(number),
            None => self.fail(format!("no label `{name}`")),
        }
    }

    /// Numbers of the labels of the branch table called `name`.
    pub(crate) fn table(&mut self, name: &str) -> Result<Box<[u32]>, Fault> {
        match self.tables.last().and_then(|tables| tables.get(name)).cloned() {
            Some(labels) => labels.iter().map(|label| self.target(label)).collect(),
            None => self.fail(format!("no branch table `{name}`")),
        }
    }

    fn fresh(&mut self, file: File) -> Result<Slot, Fault> {
        let next = match file {
            File::Word => &mut self.kernel.words,
            File::Double => &mut self.kernel.doubles,
            File::Pred => &mut self.kernel.preds,
        };
        *next += 1;
        match Slot::try_from(*next - 1) {
            Ok(slot) => Ok(slot),
            Err(_) => self.fail("more registers than the interpreter can number"),
        }
    }

    /// A register for a result that nobody reads.
    pub(crate) fn sink(&mut self, file: File) -> Result<Slot, Fault> {
        self.fresh(file)
    }

    fn registers(&mut self, ty: &str, name: &str, count: Option<u32>, line: u32) -> Result<(), Fault> {
        self.line = line;
        let file = match type_bytes(ty) {
            _ if ty == "pred" => File::Pred,
            Some(8) => File::Double,
            Some(_) => File::Word,
            None => return self.fail(format!("registers of type `.{ty}` are not known")),
        };
        let names: Vec<String> = match count {
            Some(count) => (0..count).map(|i| format!("{name}{i}")).collect(),
            None => vec![name.to_string()],
        };
        for name in names {
            let slot = self.fresh(file)?;
            self.define(name, Meaning::Register(file, slot));
        }
        Ok(())
    }

    fn define(&mut self, name: String, meaning: Meaning) {
        self.scopes.last_mut().expect("there is a scope").insert(name, meaning);
    }

    /// Local arrays, and the parameters of calls, which live in local memory too.
    fn variable(&mut self, variable: &Variable) -> Result<(), Fault> {
        match variable.space {
            Space::Local | Space::Param => {
                self.local = self.local.next_multiple_of(variable.align);
                let at = Meaning::Variable(Space::Local, self.local);
                self.define(variable.name.clone(), at);
                self.local += variable.bytes;
                Ok(())
            }
            Space::Shared => Ok(()),
            _ => self.fail("global variables inside a function are not known"),
        }
    }

    fn meaning(&self, name: &str) -> Option<Meaning> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied()
    }

    /// Slot of the register called `name`, which must live in `file`.
    pub(crate) fn named(&mut self, name: &str, file: File) -> Result<Slot, Fault> {
        if name == "_" {
            return self.sink(file);
        }
        match self.meaning(name) {
            Some(Meaning::Register(have, slot)) if have == file => Ok(slot),
            Some(Meaning::Register(have, _)) => {
                self.fail(format!("`{name}` is a {have:?} register, the instruction wants {file:?}"))
            }
            Some(Meaning::Variable(_, address)) => match file {
                File::Double => self.double(address),
                File::Word => self.word(address as u32),
                File::Pred => self.fail(format!("`{name}` is no predicate")),
            },
            None => match (Special::parse(name), file) {
                (Some(special), File::Word) => self.special(special),
                _ => self.fail(format!("unknown name `{name}`")),
            },
        }
    }

    /// File of the register called `name`, if it is a register.
    pub(crate) fn file_of(&self, operand: &Operand) -> Option<File> {
        let Operand::Name(name) = operand else { return None };
        match self.meaning(name) {
            Some(Meaning::Register(file, _)) => Some(file),
            _ => None,
        }
    }

    /// Slot of a source operand in `file`: a register, or a constant made for it.
    pub(crate) fn source(&mut self, operand: &Operand, file: File) -> Result<Slot, Fault> {
        match (operand, file) {
            (Operand::Name(name), _) => self.named(name, file),
            (Operand::Int(n), File::Word) if (-(1 << 31)..1 << 32).contains(n) => self.word(*n as u32),
            (Operand::Int(n), File::Double) if (-(1 << 63)..1 << 64).contains(n) => self.double(*n as u64),
            (Operand::Int(n), File::Pred) => self.pred(*n != 0),
            (Operand::Single(bits), File::Word) => self.word(*bits),
            (Operand::Double(bits), File::Double) => self.double(*bits),
            _ => self.fail(format!("operand {operand:?} does not fit a {file:?} register")),
        }
    }

    /// Slot of the register to be written.
    pub(crate) fn destination(&mut self, operand: &Operand, file: File) -> Result<Slot, Fault> {
        match operand {
            Operand::Name(name)
                if name == "_" || matches!(self.meaning(name), Some(Meaning::Register(..))) =>
            {
                self.named(name, file)
            }
            _ => self.fail("the result has to go to a register"),
        }
    }

    pub(crate) fn word(&mut self, value: u32) -> Result<Slot, Fault> {
        if let Some(&slot) = self.words.get(&value) {
            return Ok(slot);
        }
        let slot = self.fresh(File::Word)?;
        self.words.insert(value, slot);
        self.kernel.word_constants.push((slot, value));
        Ok(slot)
    }

    pub(crate) fn double(&mut self, value: u64) -> Result<Slot, Fault> {
        if let Some(&slot) = self.doubles.get(&value) {
            return Ok(slot);
        }
        let slot = self.fresh(File::Double)?;
        self.doubles.insert(value, slot);
        self.kernel.double_constants.push((slot, value));
        Ok(slot)
    }

    fn pred(&mut self, value: bool) -> Result<Slot, Fault> {
        if let Some(&slot) = self.preds.get(&value) {
            return Ok(slot);
        }
        let slot = self.fresh(File::Pred)?;
        self.preds.insert(value, slot);
        self.kernel.pred_constants.push((slot, value));
        Ok(slot)
    }

    fn special(&mut self, special: Special) -> Result<Slot, Fault> {
        if let Some(&slot) = self.specials.get(&special) {
            return Ok(slot);
        }
        let slot = self.fresh(File::Word)?;
        self.specials.insert(special, slot);
        self.kernel.specials.push((slot, special));
        Ok(slot)
    }

    /// Space, base register and offset of an address operand; a parameter of a call is found in local memory.
    pub(crate) fn address(
        &mut self,
        operand: &Operand,
        space: Space,
    ) -> Result<(Space, (File, Slot), i64), Fault> {
        let Operand::Address { base, offset } = operand else {
            return self.fail("expected an address in brackets");
        };
        match base.as_deref().map(|name| (name, self.meaning(name))) {
            None => Ok((space, (File::Double, self.double(0)?), *offset)),
            Some((_, Some(Meaning::Variable(have, at)))) => {
                let space = match (space, have) {
                    (Space::Param, Space::Local) => Space::Local,
                    (Space::Generic, _) => have,
                    (want, have) if want == have => have,
                    (Space::Global, Space::Const) => Space::Const,
                    (want, have) => {
                        return self.fail(format!("variable of {have:?} in an access to {want:?}"));
                    }
                };
                Ok((space, (File::Double, self.double(at)?), *offset))
            }
            Some((_, Some(Meaning::Register(File::Pred, _)))) => self.fail("a predicate is no address"),
            Some((_, Some(Meaning::Register(file, slot)))) => {
                if matches!(space, Space::Global | Space::Generic) && file == File::Double {
                    self.is_pointer(slot);
                }
                Ok((space, (file, slot), *offset))
            }
            Some((name, None)) => self.fail(format!("unknown name `{name}`")),
        }
    }

    /// Notes that a register was loaded from a parameter, at its start and whole.
    pub(crate) fn loaded_from(&mut self, slot: Slot, offset: u64) {
        match self.kernel.params.iter().position(|p| p.offset as u64 == offset && p.bytes == 8) {
            Some(index) => self.loaded.insert(slot, index),
            None => self.loaded.remove(&slot),
        };
    }

    /// Notes that a register holds a copy of another.
    pub(crate) fn copied(&mut self, to: Slot, from: Slot) {
        if let Some(&index) = self.loaded.get(&from) {
            self.loaded.insert(to, index);
        }
    }

    /// Notes that a register is used as an address of device memory.
    pub(crate) fn is_pointer(&mut self, slot: Slot) {
        if let Some(&index) = self.loaded.get(&slot) {
            self.kernel.params[index].is_pointer = true;
        }
    }

    /// `call (result), function, (arguments)`: the callee's body with its parameters bound to the caller's.
    pub(crate) fn call(
        &mut self,
        instruction: &Instruction,
        guard: Option<(Slot, bool)>,
    ) -> Result<(), Fault> {
        let mut operands = instruction.operands.iter().peekable();
        let results = match operands.next_if(|o| matches!(o, Operand::List(_))) {
            Some(Operand::List(results)) => results.as_slice(),
            _ => &[],
        };
        let Some(Operand::Name(name)) = operands.next() else {
            return self.fail("indirect calls are not known");
        };
        let arguments = match operands.next() {
            Some(Operand::List(arguments)) => arguments.as_slice(),
            _ => &[],
        };
        if operands.next().is_some() {
            return self.fail("indirect calls are not known");
        }
        if name == "__assertfail" {
            self.emit(guard, Kind::Trap);
            return Ok(());
        }
        if guard.is_some() {
            return self.fail("predicated calls are not known");
        }
        let text = self.text;
        // A declaration may come before the definition.
        let callee = text.functions.iter().find(|f| f.name == *name && f.body.is_some());
        let Some(callee) = callee else {
            return self.fail(format!("call of `{name}`, which has no body here"));
        };
        let mut bound = HashMap::new();
        for (formals, actuals) in [(&callee.results, results), (&callee.params, arguments)] {
            if formals.len() != actuals.len() {
                return self.fail(format!("`{name}` takes {} and gets {}", formals.len(), actuals.len()));
            }
            for (formal, actual) in formals.iter().zip(actuals) {
                let meaning = match actual {
                    Operand::Name(name) => self.meaning(name),
                    _ => None,
                };
                match meaning {
                    Some(meaning @ Meaning::Variable(Space::Local, _)) => {
                        bound.insert(formal.name.clone(), meaning)
                    }
                    _ => return self.fail("arguments of a call have to be .param variables"),
                };
            }
        }
        let back = self.label();
        // The callee sees the module's names and its own, not the caller's.
        let outside = std::mem::take(&mut self.scopes);
        self.scopes = vec![outside[0].clone(), bound];
        self.body(callee, Some(back))?;
        self.scopes = outside;
        self.place(back);
        Ok(())
    }

    fn finish(mut self) -> Result<Kernel, Fault> {
        let places = &self.places;
        let place = |label: &mut u32| {
            *label = places[*label as usize].expect("every label of a function is placed with its body");
        };
        for op in &mut self.kernel.code {
            match &mut op.kind {
                Kind::Branch { target } => place(target),
                Kind::BranchTable { targets, .. } => targets.iter_mut().for_each(place),
                _ => {}
            }
        }
        self.kernel.local_bytes = self.local;
        Ok(self.kernel)
    }
}

/// Generic address of the first byte of a space, if it has a window.
pub(crate) fn window(space: &str) -> Option<u64> {
    Some(match space {
        "shared" => SHARED_WINDOW,
        "local" => LOCAL_WINDOW,
        "global" | "const" | "param" => 0,
        _ => return None,
    })
}
