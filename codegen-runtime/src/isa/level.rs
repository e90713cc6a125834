//! Which levels exist, and which of them this CPU has.

/// Sets of instructions that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The target's baseline; part of every generated crate.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    V3,
    /// `V3` with AVX-VNNI.
    V3Vnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    V4,
    /// Armv8-A with NEON.
    Neon,
    /// `Neon` with the dot-product instructions.
    NeonDot,
    /// WebAssembly with `simd128`.
    WasmSimd,
    /// Cortex-M with the DSP instructions and an FPU.
    Armv7eM,
}

impl Level {
    /// Every level.
    pub const ALL: [Level; 8] = [
        Level::Scalar,
        Level::V3,
        Level::V3Vnni,
        Level::V4,
        Level::Neon,
        Level::NeonDot,
        Level::WasmSimd,
        Level::Armv7eM,
    ];

    /// The name that the command line and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::V3 => "v3",
            Level::V3Vnni => "v3-vnni",
            Level::V4 => "v4",
            Level::Neon => "neon",
            Level::NeonDot => "neon-dot",
            Level::WasmSimd => "wasm-simd",
            Level::Armv7eM => "armv7e-m",
        }
    }

    /// Whether this CPU has the level.
    pub fn available(self) -> bool {
        Detected::of(self).is_some()
    }

    /// The best level of this CPU.
    pub fn detect() -> Level {
        Detected::best().level
    }

    /// Whether a CPU with this level has `other` as well.
    const fn includes(self, other: Level) -> bool {
        matches!(
            (self, other),
            (_, Level::Scalar)
                | (Level::V3, Level::V3)
                | (Level::V3Vnni, Level::V3 | Level::V3Vnni)
                | (Level::V4, Level::V3 | Level::V4)
                | (Level::Neon, Level::Neon)
                | (Level::NeonDot, Level::Neon | Level::NeonDot)
                | (Level::WasmSimd, Level::WasmSimd)
                | (Level::Armv7eM, Level::Armv7eM)
        )
    }
}

/// A level that this CPU was found to have. Tokens are made from it without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    level: Level,
}

impl Detected {
    /// The target's baseline.
    pub const SCALAR: Detected = Detected { level: Level::Scalar };

    /// The best level of this CPU. Asks the CPU: once per model, not per inference.
    pub fn best() -> Detected {
        Detected { level: best() }
    }

    /// `level`, if this CPU has it. Asks the CPU.
    pub fn of(level: Level) -> Option<Detected> {
        let fits = match level {
            // Not every CPU with AVX-512 VNNI has the VEX-coded one.
            Level::V3Vnni => has_v3_vnni(),
            _ => best().includes(level),
        };
        if fits { Some(Detected { level }) } else { None }
    }

    /// Which level it is.
    #[inline(always)]
    pub const fn level(self) -> Level {
        self.level
    }

    /// Whether the CPU is known to have `level`.
    #[inline(always)]
    pub(super) const fn has(self, level: Level) -> bool {
        self.level.includes(level)
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Level {
    let cpu = x86::Cpu::ask();
    if cpu.v4 {
        Level::V4
    } else if cpu.v3_vnni {
        Level::V3Vnni
    } else if cpu.v3 {
        Level::V3
    } else {
        Level::Scalar
    }
}

#[cfg(target_arch = "x86_64")]
fn has_v3_vnni() -> bool {
    x86::Cpu::ask().v3_vnni
}

#[cfg(not(target_arch = "x86_64"))]
fn has_v3_vnni() -> bool {
    false
}

#[cfg(target_arch = "aarch64")]
fn best() -> Level {
    #[cfg(feature = "std")]
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        return Level::NeonDot;
    }
    if cfg!(target_feature = "dotprod") {
        Level::NeonDot
    } else if cfg!(target_feature = "neon") {
        Level::Neon
    } else {
        Level::Scalar
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn best() -> Level {
    if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) {
        Level::WasmSimd
    } else if cfg!(all(target_arch = "arm", target_os = "none", target_abi = "eabihf")) {
        // The bare-metal targets with hardware floats are thumbv7em and thumbv8m.main.
        Level::Armv7eM
    } else {
        Level::Scalar
    }
}

/// Asks an x86 CPU, and whether the system saves the registers concerned; needs no `std`.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    pub(super) struct Cpu {
        pub(super) v3: bool,
        pub(super) v3_vnni: bool,
        pub(super) v4: bool,
    }

    const fn bit(word: u32, index: u32) -> bool {
        word >> index & 1 == 1
    }

    impl Cpu {
        pub(super) fn ask() -> Cpu {
            let none = Cpu { v3: false, v3_vnni: false, v4: false };
            if __cpuid(0).eax < 7 {
                return none;
            }
            let basic = __cpuid(1);
            let (fma, osxsave, avx, f16c) =
                (bit(basic.ecx, 12), bit(basic.ecx, 27), bit(basic.ecx, 28), bit(basic.ecx, 29));
            if !(osxsave && avx) {
                return none;
            }
            // SAFETY: OSXSAVE says that `xgetbv` exists and that register 0 may be read.
            let saved = unsafe { _xgetbv(0) };
            let (ymm, zmm) = (saved & 0x06 == 0x06, saved & 0xe6 == 0xe6);
            let extended = __cpuid_count(7, 0);
            // What the tokens enable besides: a hypervisor may mask each of them.
            let popcnt = bit(basic.ecx, 23);
            let bmi = bit(extended.ebx, 3) && bit(extended.ebx, 8);
            let lzcnt = __cpuid(0x8000_0000).eax > 0x8000_0000 && bit(__cpuid(0x8000_0001).ecx, 5);
            let v3 = ymm && fma && f16c && popcnt && bmi && lzcnt && bit(extended.ebx, 5);
            let f_dq_bw_vl = [16, 17, 30, 31].iter().all(|&i| bit(extended.ebx, i));
            let v4 = v3 && zmm && f_dq_bw_vl && bit(extended.ecx, 11);
            let v3_vnni = v3 && extended.eax >= 1 && bit(__cpuid_count(7, 1).eax, 4);
            Cpu { v3, v3_vnni, v4 }
        }
    }
}

/// Chooses code by the level of an [`Isa`](crate::isa::Isa) so that only the chosen is compiled: the arms of a
/// `match` on a level would all be, at each level, and be thrown away by the optimiser.
macro_rules! by_level {
    ($isa:ty; $($level:pat => $code:expr,)+) => {{
        use crate::isa::Level;
        // All levels are named.
        const { match <$isa as crate::isa::Isa>::LEVEL { $($level => (),)+ } }
        $(if const { matches!(<$isa as crate::isa::Isa>::LEVEL, $level) } { $code })else+
    }};
}
pub(crate) use by_level;
