//! What one core of this machine can do at most, as JSON: `taskset -c 1 cargo run --release --example machine_limits`.
//!
//! `f32_gflops`: fused multiply-adds of the widest registers, two operations each. `int8_gmacs`: products of
//! `vpdpbusd` (null without it). `read_gbs`: `[bytes, gigabytes per second]` of re-reading a block of that size.
//! Each figure is the best of several rounds.

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use std::hint::black_box;
    use std::time::Instant;

    /// Independent accumulators: more than latency × throughput of the multiply-add.
    const CHAINS: usize = 16;
    const ROUNDS: usize = 12;

    fn best(work: f64, mut run: impl FnMut()) -> f64 {
        run();
        let rate = |_| {
            let start = Instant::now();
            run();
            work / start.elapsed().as_secs_f64() / 1e9
        };
        (0..ROUNDS).map(rate).fold(0.0, f64::max)
    }

    #[target_feature(enable = "avx512f")]
    fn fma512(n: u64) {
        let (m, c) = (black_box(_mm512_set1_ps(0.999)), black_box(_mm512_set1_ps(0.001)));
        let mut sums = [m; CHAINS];
        for _ in 0..n {
            for s in &mut sums {
                *s = _mm512_fmadd_ps(*s, m, c);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn fma256(n: u64) {
        let (m, c) = (black_box(_mm256_set1_ps(0.999)), black_box(_mm256_set1_ps(0.001)));
        let mut sums = [m; 12];
        for _ in 0..n {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, m, c);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni512(n: u64) {
        let (x, y) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..n {
            for s in &mut sums {
                *s = _mm512_dpbusd_epi32(*s, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    fn read512(block: &[f32]) {
        let mut sums = [_mm512_setzero_ps(); 8];
        for chunk in block.chunks_exact(128) {
            for (s, v) in sums.iter_mut().zip(chunk.chunks_exact(16)) {
                // SAFETY: `v` holds sixteen floats.
                *s = _mm512_add_ps(*s, unsafe { _mm512_loadu_ps(v.as_ptr()) });
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2")]
    fn read256(block: &[f32]) {
        let mut sums = [_mm256_setzero_ps(); 8];
        for chunk in block.chunks_exact(64) {
            for (s, v) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
                // SAFETY: `v` holds eight floats.
                *s = _mm256_add_ps(*s, unsafe { _mm256_loadu_ps(v.as_ptr()) });
            }
        }
        black_box(sums);
    }

    pub fn main() {
        let n = 4_000_000u64;
        let wide = is_x86_feature_detected!("avx512f");
        if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
            println!("{{}}");
            return;
        }
        // SAFETY: the features are those just detected.
        let flops = if wide {
            best((n * CHAINS as u64 * 32) as f64, || unsafe { fma512(n) })
        } else {
            best((n * 12 * 16) as f64, || unsafe { fma256(n) })
        };
        let int8 = if wide && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: as above.
            format!("{:.1}", best((n * CHAINS as u64 * 64) as f64, || unsafe { vnni512(n) }))
        } else {
            "null".to_owned()
        };
        let mut reads = Vec::new();
        for kib in [24, 64, 256, 512, 768, 1024, 1536, 2048, 4096, 8192, 24576, 49152, 102_400] {
            let block = vec![1.0f32; kib * 256];
            let times = (256 * 1024 / kib).max(2);
            let work = (kib * 1024 * times) as f64;
            // SAFETY: the features are those detected above.
            let read =
                || unsafe { if wide { read512(black_box(&block)) } else { read256(black_box(&block)) } };
            let rate = best(work, || (0..times).for_each(|_| read()));
            reads.push(format!("[{}, {rate:.1}]", kib * 1024));
        }
        println!(
            "{{\"f32_gflops\": {flops:.1}, \"int8_gmacs\": {int8}, \"read_gbs\": [{}]}}",
            reads.join(", ")
        );
    }
}

fn main() {
    #[cfg(target_arch = "x86_64")]
    x86::main();
    #[cfg(not(target_arch = "x86_64"))]
    println!("{{}}");
}
