//! Every operation of every level of this CPU against plain Rust.

use super::*;

struct Operations;

const A: [f32; LANES] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    2.5,
    3.5,
    -2.5,
    1e10,
    -1e-10,
    100.25,
    7.0,
    -7.0,
    0.5,
    1.5,
    4_194_305.5,
    -8_388_607.0,
];
const B: [f32; LANES] =
    [1.0, 0.0, 1.0, 2.0, -2.5, 3.25, -2.5, 1e9, 1e-10, 0.25, -7.0, 7.0, 0.75, -1.5, 3.0, 8.0];

impl Task for Operations {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (a, b) = (isa.from_array(A), isa.from_array(B));
        let check = |name: &str, got: I::P, want: &dyn Fn(f32, f32) -> f32| {
            let got = isa.to_array(got);
            for i in 0..LANES {
                let want = want(A[i], B[i]);
                assert_eq!(got[i].to_bits(), want.to_bits(), "{name} lane {i} at {}", I::LEVEL.name());
            }
        };
        check("add", isa.add(a, b), &|a, b| a + b);
        check("sub", isa.sub(a, b), &|a, b| a - b);
        check("mul", isa.mul(a, b), &|a, b| a * b);
        check("div", isa.div(a, isa.splat(3.0)), &|a, _| a / 3.0);
        check("neg", isa.neg(a), &|a, _| -a);
        check("abs", isa.abs(a), &|a, _| a.abs());
        check("max", isa.max(a, b), &|a, b| if a > b { a } else { b });
        check("min", isa.min(a, b), &|a, b| if a < b { a } else { b });
        let mask = |m: I::M| isa.select(m, isa.splat(1.0), isa.zero());
        let flag = |v: bool| if v { 1.0 } else { 0.0 };
        check("lt", mask(isa.lt(a, b)), &|a, b| flag(a < b));
        check("le", mask(isa.le(a, b)), &|a, b| flag(a <= b));
        check("eq", mask(isa.eq(a, b)), &|a, b| flag(a == b));
        check("not", mask(isa.not(isa.lt(a, b))), &|a, b| flag((a >= b) | a.is_nan() | b.is_nan()));
        check("and", mask(isa.and(isa.le(a, b), isa.lt(a, isa.zero()))), &|a, b| flag(a <= b && a < 0.0));
        check("or", mask(isa.or(isa.lt(a, b), isa.eq(a, b))), &|a, b| flag(a <= b));
        let round = isa.max(isa.min(a, isa.splat(2e9)), isa.splat(-2e9));
        check("to_i32", isa.to_f32(isa.to_i32(round)), &|a, _| {
            a.clamp(-2e9, 2e9).round_ties_even() as i32 as f32
        });
        let bits = |n: I::N| isa.from_bits(n);
        let (x, y) = (isa.bits(a), isa.bits(b));
        let int = |f: fn(i32, i32) -> i32| {
            move |a: f32, b: f32| f32::from_bits(f(a.to_bits() as i32, b.to_bits() as i32) as u32)
        };
        check("add_i32", bits(isa.add_i32(x, y)), &int(i32::wrapping_add));
        check("sub_i32", bits(isa.sub_i32(x, y)), &int(i32::wrapping_sub));
        check("and_i32", bits(isa.and_i32(x, y)), &int(|a, b| a & b));
        check("or_i32", bits(isa.or_i32(x, y)), &int(|a, b| a | b));
        check("xor_i32", bits(isa.xor_i32(x, y)), &int(|a, b| a ^ b));
        check("shl", bits(isa.shl::<3>(x)), &int(|a, _| a << 3));
        check("shr", bits(isa.shr::<23>(x)), &int(|a, _| (a as u32 >> 23) as i32));
        check("sra", bits(isa.sra::<5>(x)), &int(|a, _| a >> 5));
        check("gt_i32", mask(isa.gt_i32(x, y)), &|a, b| flag((a.to_bits() as i32) > b.to_bits() as i32));
        let nan = isa.splat(f32::NAN);
        check("max with NaN first", isa.max(nan, b), &|_, b| b);
        assert!(isa.to_array(isa.max(b, nan)).iter().all(|v| v.is_nan()));
        assert!(isa.to_array(isa.min(b, nan)).iter().all(|v| v.is_nan()));

        let fused = isa.to_array(isa.fmadd(a, b, a));
        let first = isa.to_array(isa.fmadd_first::<8>(a, b, a));
        for i in 0..LANES {
            let (once, twice) = (A[i].mul_add(B[i], A[i]), A[i] * B[i] + A[i]);
            assert!(fused[i] == once || fused[i] == twice, "fmadd lane {i} at {}", I::LEVEL.name());
            assert!(i >= 8 || first[i].to_bits() == fused[i].to_bits());
        }
        let small = isa.from_array(core::array::from_fn(|i| if i == 11 { 99.0 } else { i as f32 }));
        assert_eq!(isa.sum(small), 208.0);
        assert_eq!(isa.max_lane(small), 99.0);
        for n in 0..=LANES {
            let mut out = [9.0; LANES];
            // SAFETY: both arrays hold 16 values, and n ≤ 16.
            let loaded = unsafe { isa.load_n(B.as_ptr(), n) };
            unsafe { isa.store_n(out.as_mut_ptr(), isa.splat(5.0), n) };
            for i in 0..LANES {
                assert_eq!(isa.to_array(loaded)[i], if i < n { B[i] } else { 0.0 });
                assert_eq!(out[i], if i < n { 5.0 } else { 9.0 });
            }
        }
        let mut out = [9.0; LANES];
        // SAFETY: both arrays hold 16 values.
        unsafe { isa.store_first::<8>(out.as_mut_ptr(), isa.load_first::<8>(B.as_ptr())) };
        assert_eq!(out[..8], B[..8]);
        assert_eq!(out[8..], [9.0; 8]);
        bytes(isa);
        products(isa);
    }
}

/// Bytes in and out, and their products.
#[inline(always)]
fn bytes<I: Isa>(isa: I) {
    let ints = |n: I::N| isa.to_array(isa.from_bits(n)).map(|v| v.to_bits() as i32);
    let w: [i8; 64] = core::array::from_fn(|i| if i % 5 == 0 { -128 } else { (i * 37 % 251) as u8 as i8 });
    for x in [[255u8; 4], [1, 2, 3, 4], [255, 0, 128, 7]] {
        // SAFETY: the array holds 64 values.
        let rows = unsafe { isa.load_rows(w.as_ptr()) };
        let got = ints(isa.dot(isa.four(u32::from_le_bytes(x)), rows, isa.splat_i32(1000)));
        for i in 0..LANES {
            let want: i32 = (0..4).map(|k| i32::from(x[k]) * i32::from(w[4 * i + k])).sum();
            assert_eq!(got[i], want + 1000, "dot lane {i} at {}", I::LEVEL.name());
        }
    }
    let x: [u8; LANES] = core::array::from_fn(|i| (255 - 17 * i) as u8);
    // SAFETY: the arrays hold 16 values and more.
    let (x16, w16) = unsafe { (isa.load_u8(x.as_ptr()), isa.load_i8(w.as_ptr())) };
    assert_eq!(ints(x16), x.map(i32::from));
    let got = ints(isa.mul_add_i16(x16, w16, isa.splat_i32(-5)));
    assert_eq!(got, core::array::from_fn(|i| i32::from(x[i]) * i32::from(w[i]) - 5));
    for n in 0..=LANES {
        let mut out = [9u8; LANES];
        // SAFETY: both arrays hold 16 values, and n ≤ 16.
        let some = unsafe { isa.load_u8_n(x.as_ptr(), n) };
        // SAFETY: as above.
        unsafe { isa.store_bytes(out.as_mut_ptr(), isa.add_i32(x16, isa.splat_i32(256)), n) };
        for i in 0..LANES {
            assert_eq!(ints(some)[i], if i < n { i32::from(x[i]) } else { 0 });
            assert_eq!(out[i], if i < n { x[i] } else { 9 });
        }
    }
}

/// Rounded products against `f64`, around ties and beyond the range.
#[inline(always)]
fn products<I: Isa>(isa: I) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..2000 {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let a: [f32; LANES] = core::array::from_fn(|_| (next() >> 40) as i32 as f32 - 8_388_608.0);
        let b: [f32; LANES] = core::array::from_fn(|i| match i % 4 {
            0 => 1.0 / (1 << (next() % 24)) as f32,
            1 => (next() >> 40) as f32 / 1e14,
            _ => (next() >> 40) as f32 / (1u64 << (30 + next() % 20)) as f32,
        });
        let got = isa.to_array(isa.round_product(isa.from_array(a), isa.from_array(b)));
        for i in 0..LANES {
            let want = (f64::from(a[i]) * f64::from(b[i])).round_ties_even().clamp(-70_000.0, 70_000.0);
            let got = (got[i] - ROUND_BASE).clamp(-70_000.0, 70_000.0);
            assert_eq!(f64::from(got), want, "{} · {} in round {round} at {}", a[i], b[i], I::LEVEL.name());
        }
    }
}

#[test]
fn operations_agree_with_plain_rust() {
    Scalar::TOKEN.call(Operations);
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(isa) = V3::new() {
            isa.call(Operations);
        }
        if let Some(isa) = V3Vnni::new() {
            isa.call(Operations);
        }
        if let Some(isa) = V4::new() {
            v3_vnni_by_v4(isa).call(Operations);
            isa.call(Operations);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn detection_agrees_with_std() {
    use std::arch::is_x86_feature_detected as has;
    let v3 = has!("avx2") && has!("fma") && has!("f16c");
    assert_eq!(Level::V3.available(), v3);
    let v4 = v3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512dq")
        && has!("avx512vl")
        && has!("avx512vnni");
    assert_eq!(Level::V4.available(), v4);
    assert_eq!(Level::V3Vnni.available(), v3 && has!("avxvnni"));
    assert!(Level::Scalar.available() && !Level::Neon.available());
    assert!(Detected::of(Level::detect()).is_some());
}

#[test]
fn tokens_need_their_level() {
    assert!(Neon::of(Detected::SCALAR).is_none());
    assert!(Scalar::of(Detected::best()).is_some());
}
