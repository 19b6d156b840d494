//! Every group of instructions on values whose results are known, or are computed here in another way.

#[path = "common/ptx.rs"]
mod program;

use program::{Setup, run, text, words};

/// A 64-bit pattern as each of 32 lanes; lane `l` has operands `INPUTS[l % n]`.
fn operands(a: &[u64], b: &[u64], c: &[u64]) -> Vec<u8> {
    let mut data = Vec::new();
    for lane in 0..32 {
        for list in [a, b, c] {
            data.extend_from_slice(&list[lane % list.len()].to_le_bytes());
        }
    }
    data
}

/// Runs `op d, a, b, c` (as many sources as `kinds` has letters after the first) and compares all lanes with `want`.
///
/// Kinds name register classes: `w` 32 bits, `d` 64 bits, `h` 16 bits, `p` predicate.
#[track_caller]
fn check(op: &str, kinds: &str, lists: [&[u64]; 3], want: impl Fn(u64, u64, u64) -> u64) {
    let register = |kind: char, i: usize| match kind {
        'w' => format!("%r{}", 10 + i),
        'd' => format!("%rd{}", 10 + i),
        'h' => format!("%h{}", 10 + i),
        _ => format!("%p{}", 10 + i),
    };
    let mut body = String::from("mul.wide.u32 %rd5, %r2, 24; add.s64 %rd5, %rd2, %rd5;\n");
    let kinds: Vec<char> = kinds.chars().collect();
    let mut arguments = vec![register(kinds[0], 0)];
    for (i, &kind) in kinds.iter().enumerate().skip(1) {
        let name = register(kind, i);
        let at = 8 * (i - 1);
        body += &match kind {
            'w' => format!("ld.global.u32 {name}, [%rd5+{at}];\n"),
            'd' => format!("ld.global.u64 {name}, [%rd5+{at}];\n"),
            'h' => format!("ld.global.u16 {name}, [%rd5+{at}];\n"),
            _ => format!("ld.global.u32 %r30, [%rd5+{at}]; setp.ne.u32 {name}, %r30, 0;\n"),
        };
        arguments.push(name);
    }
    body += &format!("{op} {};\n", arguments.join(", "));
    body += &match kinds[0] {
        'w' => "cvt.u64.u32 %rd6, %r10;\n".to_string(),
        'd' => "mov.u64 %rd6, %rd10;\n".to_string(),
        'h' => "cvt.u32.u16 %r31, %h10; cvt.u64.u32 %rd6, %r31;\n".to_string(),
        _ => "selp.u64 %rd6, 1, 0, %p10;\n".to_string(),
    };
    body += "mul.wide.u32 %rd7, %r2, 8; add.s64 %rd7, %rd1, %rd7; st.global.u64 [%rd7], %rd6; ret;";
    let input = operands(lists[0], lists[1], lists[2]);
    let output = run(&body, Setup { input: &input, output: 256, ..Setup::default() });
    let output = output.unwrap_or_else(|fault| panic!("{op}: {fault}"));
    for (lane, bytes) in output.chunks_exact(8).enumerate() {
        let [a, b, c] = lists.map(|list| list[lane % list.len()]);
        let got = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let want = want(a, b, c);
        assert_eq!(got, want, "{op} of {a:#x}, {b:#x}, {c:#x}: {got:#x}, want {want:#x}");
    }
}

const NONE: &[u64] = &[0];
const INTS: &[u64] = &[0, 1, 2, 7, 31, 255, 65_535, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1234_5678];
const OTHER: &[u64] = &[3, 0xffff_fffe, 1, 0x8000_0001, 12, 0x0f0f_0f0f, 0x1_0001];
const LONGS: &[u64] = &[0, 1, u64::MAX, 1 << 63, 0x1234_5678_9abc_def0, 0xffff_ffff, 1 << 40];
const LONGER: &[u64] = &[3, u64::MAX - 1, 1 << 32, 0x8000_0000_0000_0001, 17];
const SHIFTS: &[u64] = &[0, 1, 5, 31, 32, 33, 63, 64, 200];

fn s(x: u64) -> i32 {
    x as u32 as i32
}

fn w(x: i64) -> u64 {
    u64::from(x as u32)
}

#[test]
fn integers_of_32_bits() {
    let pair = [INTS, OTHER, NONE];
    check("add.s32", "www", pair, |a, b, _| w(a as i64 + b as i64));
    check("sub.u32", "www", pair, |a, b, _| w(a as i64 - b as i64));
    check("mul.lo.s32", "www", pair, |a, b, _| w((u128::from(a) * u128::from(b)) as i64));
    check("mul.hi.u32", "www", pair, |a, b, _| (a * b) >> 32);
    check("mul.hi.s32", "www", pair, |a, b, _| w((i64::from(s(a)) * i64::from(s(b))) >> 32));
    check("mul.wide.u32", "dww", pair, |a, b, _| a * b);
    check("mul.wide.s32", "dww", pair, |a, b, _| (i64::from(s(a)) * i64::from(s(b))) as u64);
    check("div.s32", "www", pair, |a, b, _| w(i64::from(s(a)) / i64::from(s(b))));
    check("div.u32", "www", pair, |a, b, _| a / b);
    check("rem.s32", "www", pair, |a, b, _| w(i64::from(s(a)) % i64::from(s(b))));
    check("rem.u32", "www", pair, |a, b, _| a % b);
    check("min.s32", "www", pair, |a, b, _| w(i64::from(s(a).min(s(b)))));
    check("max.u32", "www", pair, |a, b, _| a.max(b));
    check("and.b32", "www", pair, |a, b, _| a & b);
    check("or.b32", "www", pair, |a, b, _| a | b);
    check("xor.b32", "www", pair, |a, b, _| a ^ b);
    check("not.b32", "ww", pair, |a, _, _| w(!a as i64));
    check("neg.s32", "ww", pair, |a, _, _| w(-(a as i64)));
    check("abs.s32", "ww", pair, |a, _, _| w(i64::from(s(a)).abs()));
    check("popc.b32", "ww", pair, |a, _, _| u64::from(a.count_ones()));
    check("clz.b32", "ww", pair, |a, _, _| u64::from(a.leading_zeros()) - 32);
    check("brev.b32", "ww", pair, |a, _, _| a.reverse_bits() >> 32);
    check(
        "bfind.u32",
        "ww",
        pair,
        |a, _, _| if a == 0 { 0xffff_ffff } else { 63 - u64::from(a.leading_zeros()) },
    );
    check("mad.lo.s32", "wwww", [INTS, OTHER, LONGER], |a, b, c| {
        w((u128::from(a) * u128::from(b) + u128::from(c)) as i64)
    });
    check("mad.wide.u32", "dwwd", [INTS, OTHER, LONGER], |a, b, c| (a * b).wrapping_add(c));
    let shift = [INTS, SHIFTS, NONE];
    check("shl.b32", "www", shift, |a, n, _| if n > 31 { 0 } else { w((a << n) as i64) });
    check("shr.u32", "www", shift, |a, n, _| if n > 31 { 0 } else { a >> n });
    check("shr.s32", "www", shift, |a, n, _| w(i64::from(s(a)) >> n.min(31)));
    let funnel = [INTS, OTHER, SHIFTS];
    check("shf.l.wrap.b32", "wwww", funnel, |a, b, n| ((b << 32 | a) << (n & 31)) >> 32);
    check("shf.r.wrap.b32", "wwww", funnel, |a, b, n| w(((b << 32 | a) >> (n & 31)) as i64));
    check("shf.r.clamp.b32", "wwww", funnel, |a, b, n| w(((b << 32 | a) >> n.min(32)) as i64));
    check("bfe.u32", "wwww", [INTS, &[0, 4, 16, 31], &[1, 4, 8, 32]], |a, pos, len| {
        let high = a >> pos;
        if len == 32 { high } else { high & ((1 << len) - 1) }
    });
    check("bfe.s32", "wwww", [&[0xf0, 0x80, 0x7f], &[4], &[4]], |a, _, _| match a {
        0xf0 => 0xffff_ffff,
        0x80 => 0xffff_fff8,
        _ => 7,
    });
    check("prmt.b32", "wwww", [&[0x8133_2211], &[0x7766_5544], &[0x7410, 0xb320, 0x3210]], |a, b, sel| {
        let bytes = (b << 32 | a).to_le_bytes();
        (0..4).fold(0, |out, i| {
            let nibble = sel >> (4 * i) & 15;
            let byte = u64::from(bytes[(nibble & 7) as usize]);
            let byte = if nibble < 8 { byte } else { 0xff * (byte >> 7) };
            out | byte << (8 * i)
        })
    });
}

#[test]
fn integers_of_other_widths() {
    let pair = [LONGS, LONGER, NONE];
    check("add.s64", "ddd", pair, |a, b, _| a.wrapping_add(b));
    check("sub.s64", "ddd", pair, |a, b, _| a.wrapping_sub(b));
    check("mul.lo.s64", "ddd", pair, |a, b, _| a.wrapping_mul(b));
    check("mul.hi.u64", "ddd", pair, |a, b, _| ((u128::from(a) * u128::from(b)) >> 64) as u64);
    check("div.u64", "ddd", pair, |a, b, _| a / b);
    check("rem.s64", "ddd", pair, |a, b, _| (a as i64).wrapping_rem(b as i64) as u64);
    check("min.s64", "ddd", pair, |a, b, _| (a as i64).min(b as i64) as u64);
    check("max.u64", "ddd", pair, |a, b, _| a.max(b));
    check("shl.b64", "ddw", [LONGS, SHIFTS, NONE], |a, n, _| if n > 63 { 0 } else { a << n });
    check("shr.s64", "ddw", [LONGS, SHIFTS, NONE], |a, n, _| (a as i64 >> n.min(63)) as u64);
    check("popc.b64", "wd", pair, |a, _, _| u64::from(a.count_ones()));
    let short = [&[0, 1, 0x7fff, 0x8000, 0xffff][..], &[3, 0xfffe, 0x8000], NONE];
    check("add.s16", "hhh", short, |a, b, _| (a + b) & 0xffff);
    check("mul.lo.s16", "hhh", short, |a, b, _| (a * b) & 0xffff);
    check("mul.wide.s16", "whh", short, |a, b, _| w(i64::from(a as i16) * i64::from(b as i16)));
    check("shr.s16", "hhw", short, |a, b, _| u64::from((a as i16 >> b.min(15)) as u16));
}

#[test]
fn division_by_zero_is_all_ones() {
    check("div.u32", "www", [INTS, NONE, NONE], |_, _, _| 0xffff_ffff);
    check("div.s64", "ddd", [LONGS, NONE, NONE], |_, _, _| u64::MAX);
}

#[test]
fn bit_fields_and_truth_tables() {
    for (pos, len, want) in
        [(8, 8, 0xffff_cdff_u32), (0, 32, 0xabcd), (28, 8, 0xdfff_ffff), (40, 4, 0xffff_ffff)]
    {
        let body = format!(
            "mov.u32 %r5, 0xabcd; mov.u32 %r6, -1; bfi.b32 %r9, %r5, %r6, {pos}, {len};{}",
            program::STORE
        );
        assert_eq!(words(&run(&body, Setup::default()).expect("runs"))[0], want, "{pos} {len}");
    }
    let (a, b, c) = (0xf0f0_1234_u32, 0xcccc_5678, 0xaaaa_9abc);
    for (table, want) in [
        (0x80, a & b & c),
        (0xfe, a | b | c),
        (0x96, a ^ b ^ c),
        (0xe8, a & b | b & c | a & c),
        (0xca, a & b | !a & c),
    ] {
        let body = format!("lop3.b32 %r9, {a}, {b}, {c}, {table};{}", program::STORE);
        assert_eq!(words(&run(&body, Setup::default()).expect("runs"))[0], want, "{table:#x}");
    }
}

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn bits(x: f32) -> u64 {
    u64::from(x.to_bits())
}

fn floats(list: &[f32]) -> Vec<u64> {
    list.iter().map(|&x| bits(x)).collect()
}

#[test]
fn single_precision() {
    let a = floats(&[0.0, -0.0, 1.5, -2.25, 1e30, 1e-40, f32::INFINITY, 0.1, 3.0, -1e-20]);
    let b = floats(&[3.0, -0.5, 1e-8, 7e20, -0.0, 1e-3, 0.3]);
    let c = floats(&[1.0, -1e5, 1e-9]);
    let three = [&a[..], &b, &c];
    check("add.f32", "www", three, |a, b, _| bits(f(a) + f(b)));
    check("sub.f32", "www", three, |a, b, _| bits(f(a) - f(b)));
    check("fma.rn.f32", "wwww", three, |a, b, c| bits(f(a).mul_add(f(b), f(c))));
    check("neg.f32", "ww", three, |a, _, _| bits(-f(a)));
    check("abs.f32", "ww", three, |a, _, _| bits(f(a).abs()));
    check("copysign.f32", "www", three, |a, b, _| bits(f(b).abs().copysign(f(a))));
    let finite = floats(&[1.5, -2.25, 1e30, 0.1, 3.0, -1e-20, 8e20, 1e-39]);
    let two = [&finite[..], &b, NONE];
    check("mul.f32", "www", two, |a, b, _| bits(f(a) * f(b)));
    check("div.rn.f32", "www", two, |a, b, _| bits(f(a) / f(b)));
    check("sqrt.rn.f32", "ww", [&floats(&[2.0, 1e-30, 9.0, f32::INFINITY]), NONE, NONE], |a, _, _| {
        bits(f(a).sqrt())
    });
    check("rcp.rn.f32", "ww", two, |a, _, _| bits(1.0 / f(a)));
    // Directed sums bracket the sum of doubles, which is exact for these.
    let down = |x: f64| {
        let r = x as f32;
        if f64::from(r) > x { r.next_down() } else { r }
    };
    let exact = [&floats(&[1.0, -3.0, 1e5])[..], &floats(&[1e-7, 1e-3, -1e-6]), NONE];
    check("add.rm.f32", "www", exact, |a, b, _| bits(down(f64::from(f(a)) + f64::from(f(b)))));
    check("add.rp.f32", "www", exact, |a, b, _| bits(-down(-(f64::from(f(a)) + f64::from(f(b))))));
    check("mul.rm.f32", "www", exact, |a, b, _| bits(down(f64::from(f(a)) * f64::from(f(b)))));
    check("add.rz.f32", "www", exact, |a, b, _| {
        let sum = f64::from(f(a)) + f64::from(f(b));
        bits(if sum > 0.0 { down(sum) } else { -down(-sum) })
    });
    // Flushing takes subnormals for zeros, in and out.
    let tiny = floats(&[1e-40, -1e-40, 1e-30]);
    check("mul.ftz.f32", "www", [&tiny, &floats(&[1.0, 1e-9]), NONE], |a, b, _| {
        let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
        bits(flush(flush(f(a)) * f(b)))
    });
    check("add.sat.f32", "www", [&floats(&[-1.0, 0.25, 2.0, f32::NAN]), NONE, NONE], |a, _, _| {
        bits(if f(a) > 0.0 { f(a).min(1.0) } else { 0.0 })
    });
}

#[test]
fn minimum_and_maximum_prefer_numbers_and_order_zeros() {
    let a = floats(&[1.0, f32::NAN, -0.0, 0.0, f32::NEG_INFINITY]);
    let b = floats(&[f32::NAN, 2.0, 0.0, -0.0, 5.0]);
    let results = |op: &str| {
        let mut seen = Vec::new();
        for (&a, &b) in a.iter().zip(&b) {
            let body = format!("mov.b32 %r5, {a}; mov.b32 %r6, {b}; {op} %r9, %r5, %r6; {}", program::STORE);
            seen.push(f32::from_bits(words(&run(&body, Setup::default()).expect("runs"))[0]));
        }
        seen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(results("max.f32"), "1 2 0 0 5");
    assert_eq!(results("min.f32"), "1 2 -0 -0 -inf");
    assert_eq!(results("max.NaN.f32"), "NaN NaN 0 0 5");
}

#[test]
fn double_precision() {
    let d = |list: &[f64]| list.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
    let (a, b, c) = (d(&[0.1, -3.5, 1e300, 1e-310]), d(&[7.0, -1e-5, 0.3]), d(&[1.0, 1e20]));
    let three = [&a[..], &b, &c];
    let g = f64::from_bits;
    check("add.f64", "ddd", three, |a, b, _| (g(a) + g(b)).to_bits());
    check("mul.f64", "ddd", three, |a, b, _| (g(a) * g(b)).to_bits());
    check("fma.rn.f64", "dddd", three, |a, b, c| g(a).mul_add(g(b), g(c)).to_bits());
    check("div.rn.f64", "ddd", three, |a, b, _| (g(a) / g(b)).to_bits());
    check("rcp.rn.f64", "dd", three, |a, _, _| (1.0 / g(a)).to_bits());
    check("rcp.approx.ftz.f64", "dd", [&b, NONE, NONE], |a, _, _| (1.0 / g(a)).to_bits() >> 32 << 32);
    check("neg.f64", "dd", three, |a, _, _| (-g(a)).to_bits());
    check("max.f64", "ddd", three, |a, b, _| g(a).max(g(b)).to_bits());
}

#[test]
fn approximate_functions_are_the_nearest_without_a_shift() {
    let x = floats(&[0.5, 2.0, 3.7, 1e-3, 100.0, 0.99]);
    let one = [&x[..], NONE, NONE];
    check("ex2.approx.f32", "ww", one, |a, _, _| bits(f64::from(f(a)).exp2() as f32));
    check("lg2.approx.f32", "ww", one, |a, _, _| bits(f64::from(f(a)).log2() as f32));
    check("rcp.approx.f32", "ww", one, |a, _, _| bits(1.0 / f(a)));
    check("rsqrt.approx.f32", "ww", one, |a, _, _| bits((1.0 / f64::from(f(a)).sqrt()) as f32));
    check("tanh.approx.f32", "ww", one, |a, _, _| bits(f64::from(f(a)).tanh() as f32));
    check("ex2.approx.ftz.f32", "ww", [&floats(&[f32::NEG_INFINITY, 0.0, 200.0]), NONE, NONE], |a, _, _| {
        bits(match f(a) {
            0.0 => 1.0,
            x if x < 0.0 => 0.0,
            _ => f32::INFINITY,
        })
    });
}

#[test]
fn comparisons_and_selection() {
    let a = floats(&[1.0, 2.0, f32::NAN, -0.0]);
    let b = floats(&[2.0, 2.0, 1.0, 0.0, f32::NAN]);
    let pair = [&a[..], &b, NONE];
    let yes = u64::from;
    check("setp.lt.f32", "pww", pair, |a, b, _| yes(f(a) < f(b)));
    check("setp.ge.f32", "pww", pair, |a, b, _| yes(f(a) >= f(b)));
    check("setp.ne.f32", "pww", pair, |a, b, _| yes(f(a) < f(b) || f(a) > f(b)));
    check("setp.neu.f32", "pww", pair, |a, b, _| yes(f(a) != f(b)));
    check("setp.gtu.f32", "pww", pair, |a, b, _| yes(f(a) > f(b) || f(a).is_nan() || f(b).is_nan()));
    check("setp.nan.f32", "pww", pair, |a, b, _| yes(f(a).is_nan() || f(b).is_nan()));
    check("setp.num.f32", "pww", pair, |a, b, _| yes(!f(a).is_nan() && !f(b).is_nan()));
    check("setp.lt.s32", "pww", [INTS, OTHER, NONE], |a, b, _| yes(s(a) < s(b)));
    check("setp.lt.u32", "pww", [INTS, OTHER, NONE], |a, b, _| yes(a < b));
    check("setp.ge.s64", "pdd", [LONGS, LONGER, NONE], |a, b, _| yes(a as i64 >= b as i64));
    check("setp.gt.and.u32", "pwwp", [INTS, OTHER, &[0, 1]], |a, b, c| yes(a > b && c != 0));
    check("setp.gt.or.u32", "pwwp", [INTS, OTHER, &[0, 1]], |a, b, c| yes(a > b || c != 0));
    check("selp.b32", "wwwp", [INTS, OTHER, &[0, 1, 1]], |a, b, c| if c != 0 { a } else { b });
    check("xor.pred", "ppp", [&[0, 1], &[0, 0, 1, 1], NONE], |a, b, _| a ^ b);
}

#[test]
fn conversions() {
    let x = floats(&[0.5, 1.5, -2.5, 3e9, -3e9, f32::NAN, 7.9, f32::INFINITY]);
    let one = [&x[..], NONE, NONE];
    check("cvt.rni.s32.f32", "ww", one, |a, _, _| w(i64::from(f(a).round_ties_even() as i32)));
    check("cvt.rzi.u32.f32", "ww", one, |a, _, _| u64::from(f(a) as u32));
    check("cvt.rmi.s64.f32", "dw", [&x[..5], NONE, NONE], |a, _, _| f(a).floor() as i64 as u64);
    check("cvt.rni.f32.f32", "ww", [&x[..5], NONE, NONE], |a, _, _| bits(f(a).round_ties_even()));
    check("cvt.sat.f32.f32", "ww", one, |a, _, _| bits(if f(a) > 0.0 { f(a).min(1.0) } else { 0.0 }));
    check("cvt.f64.f32", "dw", [&x[..5], NONE, NONE], |a, _, _| f64::from(f(a)).to_bits());
    check("cvt.rn.f32.f64", "wd", [&[0.1f64.to_bits(), 1e300f64.to_bits()], NONE, NONE], |a, _, _| {
        bits(f64::from_bits(a) as f32)
    });
    check("cvt.rn.f32.s32", "ww", [INTS, NONE, NONE], |a, _, _| bits(s(a) as f32));
    check("cvt.rz.f32.u32", "ww", [&[0xffff_ffff, 16_777_217], NONE, NONE], |a, _, _| {
        bits(if a == 16_777_217 { 16_777_216.0 } else { 4_294_967_040.0 })
    });
    check("cvt.rn.f64.u64", "dd", [LONGS, NONE, NONE], |a, _, _| (a as f64).to_bits());
    check("cvt.s64.s32", "dw", [INTS, NONE, NONE], |a, _, _| i64::from(s(a)) as u64);
    check("cvt.s32.s8", "wh", [&[0x7f, 0x80, 0x1ff], NONE, NONE], |a, _, _| w(i64::from(a as i8)));
    check("cvt.u16.u32", "hw", [INTS, NONE, NONE], |a, _, _| a & 0xffff);
    check("cvt.rn.bf16.f32", "hw", [&x[..5], NONE, NONE], |a, _, _| {
        let a = a as u32;
        u64::from((a + 0x7fff + (a >> 16 & 1)) >> 16)
    });
    check("cvt.f32.bf16", "wh", [&[0x3f80, 0xc020], NONE, NONE], |a, _, _| a << 16);
}

#[test]
fn packing_halves_and_narrow_loads() {
    let body = format!(
        "mov.b64 %rd5, {{%r1, %r2}}; mov.b64 {{%r5, %r6}}, %rd5; mov.b32 {{%h1, %h2}}, 0x12345678;
         {{ .reg .b32 %r9; mov.u32 %r9, 77; }}
         mov.b32 %r7, {{%h2, %h1}}; mov.u16 %h3, -1; st.global.u16 [%rd1+1000], %h3; ld.global.s16 %r8, [%rd1+1000];
         add.u32 %r9, %r5, %r6; add.u32 %r9, %r9, %r7; add.u32 %r9, %r9, %r8; {}",
        program::STORE
    );
    let got = words(&run(&body, Setup { n: 1000, ..Setup::default() }).expect("runs"));
    assert!((0..32).all(|l| got[l as usize] == 0x5678_1234 + 1000 + l - 1), "{got:x?}");
}

#[test]
fn vectors_constants_local_memory_and_calls() {
    let whole = text(
        ".local .align 16 .b8 depot[64]; .reg .b64 %sp;
         mov.u64 %sp, depot; cvta.local.u64 %rd20, %sp;
         mul.wide.u32 %rd5, %r2, 16; add.s64 %rd6, %rd2, %rd5;
         ld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%rd6];
         st.local.v2.f32 [%sp+8], {%f1, %f4};
         ld.f32 %f5, [%rd20+12];
         ld.const.f32 %f6, [table+4];
         { .param .b32 a0; st.param.f32 [a0+0], %f5; .param .b32 a1; st.param.f32 [a1+0], %f6; .param .b32 back;
           call.uni (back), scaled, (a0, a1); ld.param.f32 %f7, [back+0]; }
         mul.wide.u32 %rd7, %r2, 4; add.s64 %rd7, %rd1, %rd7; st.global.f32 [%rd7], %f7; ret;",
    );
    let function = ".const .align 4 .b8 table[8] = {0, 0, 0, 0, 0, 0, 0, 64};
        .func (.param .b32 result) scaled(.param .b32 x, .param .b32 by) {
            .reg .f32 %f<4>; .reg .pred %p1;
            ld.param.f32 %f1, [x]; ld.param.f32 %f2, [by];
            setp.lt.f32 %p1, %f1, 0f00000000; @%p1 bra $out;
            mul.f32 %f3, %f1, %f2; st.param.f32 [result+0], %f3; ret;
        $out: st.param.f32 [result+0], 0fBF800000; ret; }";
    let whole = whole.replacen(".visible", &format!("{function}\n.visible"), 1);
    let input: Vec<u8> = (0..128).flat_map(|i| (i as f32 - 30.0).to_le_bytes()).collect();
    let mut memory = ama_cuda_standin::memory::Memory::new(1 << 20, None, false);
    let module = program::load(&whole, &mut memory).expect("a legal text");
    let [out, at] = [memory.alloc(128).expect("fits"), memory.alloc(512).expect("fits")];
    memory.get_mut(at, 512).expect("alive").copy_from_slice(&input);
    let params = [&out.to_le_bytes()[..], &at.to_le_bytes(), &[0; 4]].concat();
    let launch = ama_cuda_standin::ptx::Launch {
        kernel: module.kernel("k").expect("there"),
        grid: [1; 3],
        block: [32, 1, 1],
        dynamic: 0,
        params: &params,
    };
    launch.run(&mut memory, &ama_cuda_standin::ptx::Rules::default()).expect("runs");
    let got = words(memory.get(out, 128).expect("alive"));
    for (lane, got) in got.into_iter().enumerate() {
        let x = (4 * lane + 3) as f32 - 30.0;
        assert_eq!(f32::from_bits(got), if x < 0.0 { -1.0 } else { 2.0 * x }, "lane {lane}");
    }
}

#[test]
fn unknown_instructions_are_refused_with_their_line() {
    for bad in [
        "tensormap.replace.tile %r9, %r1;",
        "add.s33 %r9, %r1, %r2;",
        "cvt.rn.s32.f32 %r9, %f1;",
        "ld.global.v3.f32 %f1, [%rd1];",
        "add.s32 %r9, %rd1, %r2;",
        "add.s32 %r9, %r1;",
        "mov.u32 %r9, %clock;",
        "bra $nowhere;",
        "setp.lt.ftz.f32 %p1, %f1, %f2;",
        "ld.global.L7.f32 %f1, [%rd1];",
        "add.s32 %r99, %r1, %r2;",
        "mov.f32 %f1, 0f3F80;",
        "call.uni printf, (%r1);",
    ] {
        let fault = run(bad, Setup::default()).expect_err(bad);
        let shown = fault.to_string();
        assert!(
            shown.starts_with("PTX line 11: ") && shown.contains(bad.trim_end_matches(';')),
            "{bad}: {shown}"
        );
        assert_eq!(fault.code(), 218);
    }
    assert!(
        program::load("not ptx at all", &mut ama_cuda_standin::memory::Memory::new(1, None, false)).is_err()
    );
}
