//! Offsets for blocks that live at known times: the dynamic storage allocation problem.
//!
//! Takes blocks of a size and a life; gives each an offset so that blocks alive at the same time do not
//! meet, keeping the highest end low. Several greedy orders are tried (by size, by size times
//! duration, by start, by duration), each block going to the lowest gap that holds it; then a
//! bounded search moves blocks that end at the peak to the front of the order and keeps what helps.
//! It never gives up: in the worst case blocks lie one behind the other. It does not split or move
//! blocks over time.

use super::liveness::Life;

/// Something to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Bytes, already rounded up to the alignment.
    pub size: usize,
    /// When.
    pub life: Life,
}

/// Rounds of the search: each places all blocks anew, so large problems get fewer.
const SEARCH_BLOCK_VISITS: usize = 400_000;

/// Offsets of the blocks, in their order, and the end of the highest. `floor` is a size below which no
/// placement can be: reaching it ends the search.
pub fn place(blocks: &[Block], floor: usize) -> (Vec<usize>, usize) {
    let mut best: Option<(Vec<usize>, usize)> = None;
    let mut best_order = Vec::new();
    let duration = |b: &Block| b.life.end - b.life.start + 1;
    type Key = fn(&Block) -> (usize, usize);
    let keys: [Key; 4] = [
        |b| (usize::MAX - b.size, b.life.start),
        |b| (usize::MAX - b.size.saturating_mul(b.life.end - b.life.start + 1), b.life.start),
        |b| (b.life.start, usize::MAX - b.size),
        |b| (usize::MAX - (b.life.end - b.life.start), usize::MAX - b.size),
    ];
    for key in keys {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| (blocks.get(i).map(key), i));
        consider(blocks, order, &mut best, &mut best_order);
    }
    // The step at which most is alive, placed first, then outwards: what a sliding window wants.
    if let Some(busiest) = busiest(blocks) {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| {
            blocks.get(i).map(|b| {
                let away = if b.life.start > busiest {
                    b.life.start - busiest
                } else {
                    busiest.saturating_sub(b.life.end)
                };
                (away, usize::MAX - b.size, usize::MAX - duration(b))
            })
        });
        consider(blocks, order, &mut best, &mut best_order);
    }
    let rounds = SEARCH_BLOCK_VISITS / (blocks.len() * blocks.len()).max(1);
    let mut order = best_order.clone();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..rounds {
        let Some((offsets, end)) = &best else { break };
        if *end <= floor {
            break;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let highest: Vec<usize> = (0..order.len())
            .filter(|&p| {
                let at = order.get(p).copied().unwrap_or(0);
                offsets.get(at).zip(blocks.get(at)).is_some_and(|(o, b)| o + b.size == *end)
            })
            .collect();
        let mut trial = best_order.clone();
        // Mostly a block at the peak comes earlier; sometimes any two change places.
        let from = match highest.get((state >> 33) as usize % highest.len().max(1)) {
            Some(&p) if state % 4 != 0 => p,
            _ => (state >> 20) as usize % trial.len().max(1),
        };
        if from < trial.len() {
            let moved = trial.remove(from);
            let to = (state >> 45) as usize % (from + 1);
            trial.insert(to, moved);
        }
        order = trial.clone();
        consider(blocks, trial, &mut best, &mut best_order);
    }
    best.unwrap_or_default()
}

fn consider(
    blocks: &[Block],
    order: Vec<usize>,
    best: &mut Option<(Vec<usize>, usize)>,
    best_order: &mut Vec<usize>,
) {
    let found = greedy(blocks, &order);
    if best.as_ref().is_none_or(|(_, end)| found.1 < *end) {
        *best = Some(found);
        *best_order = order;
    }
}

/// Places blocks in the given order, each at the lowest offset where it meets no placed block.
fn greedy(blocks: &[Block], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    // Kept sorted by offset, so that gaps are found in one walk.
    let mut placed: Vec<(usize, usize, Life)> = Vec::with_capacity(blocks.len());
    let mut highest = 0;
    for &i in order {
        let Some(block) = blocks.get(i) else { continue };
        let mut at = 0;
        for &(offset, size, life) in &placed {
            if !life.meets(&block.life) {
                continue;
            }
            if offset >= at && offset - at >= block.size {
                break;
            }
            at = at.max(offset + size);
        }
        if let Some(o) = offsets.get_mut(i) {
            *o = at;
        }
        let position = placed.partition_point(|&(o, ..)| o <= at);
        placed.insert(position, (at, block.size, block.life));
        highest = highest.max(at + block.size);
    }
    (offsets, highest)
}

/// The time at which most bytes are alive.
fn busiest(blocks: &[Block]) -> Option<usize> {
    let last = blocks.iter().map(|b| b.life.end).max()?;
    let mut change = vec![0isize; last + 2];
    for b in blocks {
        let size = isize::try_from(b.size).unwrap_or(isize::MAX);
        if let Some(c) = change.get_mut(b.life.start) {
            *c = c.saturating_add(size);
        }
        if let Some(c) = change.get_mut(b.life.end + 1) {
            *c = c.saturating_sub(size);
        }
    }
    let (mut alive, mut best, mut at) = (0isize, isize::MIN, None);
    for (time, c) in change.iter().enumerate() {
        alive = alive.saturating_add(*c);
        if alive > best {
            (best, at) = (alive, Some(time));
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(size: usize, start: usize, end: usize) -> Block {
        Block { size, life: Life { start, end } }
    }

    fn check(blocks: &[Block], offsets: &[usize], end: usize) {
        for (i, a) in blocks.iter().enumerate() {
            assert!(offsets[i] + a.size <= end);
            for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                if a.life.meets(&b.life) {
                    let apart = offsets[i] + a.size <= offsets[j] || offsets[j] + b.size <= offsets[i];
                    assert!(apart, "{i} and {j} meet");
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let blocks: Vec<Block> =
            [64, 128, 192, 64, 256].iter().enumerate().map(|(i, &s)| block(s, i, i + 1)).collect();
        let (offsets, end) = place(&blocks, 0);
        check(&blocks, &offsets, end);
        assert_eq!(end, 320);
    }

    #[test]
    fn random_blocks_never_meet_and_end_near_the_bound() {
        let mut state = 7u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for _ in 0..40 {
            let blocks: Vec<Block> = (0..30)
                .map(|_| {
                    let start = random(40);
                    block(64 * (1 + random(20)), start, start + random(6))
                })
                .collect();
            let bound = (0..50)
                .map(|t| {
                    blocks.iter().filter(|b| b.life.meets(&Life { start: t, end: t })).map(|b| b.size).sum()
                })
                .max()
                .unwrap();
            let (offsets, end) = place(&blocks, bound);
            check(&blocks, &offsets, end);
            assert!(end * 10 <= bound * 13, "{end} bytes where {bound} are alive");
        }
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(place(&[], 0), (Vec::new(), 0));
    }
}
