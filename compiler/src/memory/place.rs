//! Offsets for blocks that live at known times: the dynamic storage allocation problem, with blocks that
//! may share bytes at the moment when one is written over another.
//!
//! Takes blocks with a size and a life, and for some pairs a [`Rule`]; gives each an offset so that blocks
//! alive at the same time do not meet unless their rule lets them, keeping the highest end low. Several
//! greedy orders are tried (by size, by size times duration, by start, by duration, outwards from the
//! busiest time), each block going to the lowest place that its placed neighbours allow; then a bounded
//! search moves blocks that end at the peak to the front of the order and keeps what does not hurt.
//! It never gives up: in the worst case blocks lie one behind the other. It does not split or move blocks
//! over time. Deterministic: the search draws from a generator with a fixed seed.

use super::liveness::Life;
use std::collections::BTreeMap;

/// Something to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Bytes.
    pub size: usize,
    /// When.
    pub life: Life,
}

/// How two blocks alive at the same time may lie, where they need not be apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `read` may lie at least so many bytes behind the start of `written`, and share bytes with it.
    AtLeast(isize),
    /// `read` may lie exactly so many bytes behind the start of `written`.
    Exactly(isize),
}

/// Two blocks of which one is written over the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// The block that is read for the last time.
    pub read: usize,
    /// The block that is written for the first time.
    pub written: usize,
    /// How they may lie to each other.
    pub rule: Rule,
}

/// Work of the search, in looks at a neighbour: a fraction of a second unoptimised.
const SEARCH_LOOKS: usize = 3_000_000;

/// Rounds without progress after which the search stops.
const PATIENCE: usize = 600;

/// Pairs of blocks alive together beyond which there is no search: each takes memory and time here.
const MOST_PAIRS: usize = 2_000_000;

/// Offsets of the blocks, in their order, and the end of the highest.
pub fn place(blocks: &[Block], sharings: &[Sharing], align: usize) -> (Vec<usize>, usize) {
    if pairs(blocks) > MOST_PAIRS {
        return first_fit(blocks, align.max(1));
    }
    let problem = Problem::new(blocks, sharings, align.max(1));
    let mut best = Placement { offsets: vec![0; blocks.len()], end: usize::MAX, order: Vec::new() };
    for order in problem.orders() {
        let found = problem.greedy(order);
        if found.end < best.end {
            best = found;
        }
    }
    problem.search(best)
}

/// An open interval of starts that a placed neighbour rules out.
type Forbidden = (i128, i128);

/// A neighbour in time, and how the two may share.
#[derive(Clone, Copy)]
struct Neighbour {
    block: usize,
    /// The rule, and whether this block is the one read.
    rule: Option<(Rule, bool)>,
}

struct Problem<'a> {
    blocks: &'a [Block],
    neighbours: Vec<Vec<Neighbour>>,
    align: usize,
    /// No placement can end below it.
    floor: usize,
}

struct Placement {
    offsets: Vec<usize>,
    end: usize,
    order: Vec<usize>,
}

impl<'a> Problem<'a> {
    fn new(blocks: &'a [Block], sharings: &[Sharing], align: usize) -> Self {
        let mut neighbours: Vec<Vec<Neighbour>> = vec![Vec::new(); blocks.len()];
        let rules: BTreeMap<(usize, usize), Rule> =
            sharings.iter().map(|s| ((s.read, s.written), s.rule)).collect();
        // Blocks in order of start, so that those alive together are found without all pairs.
        let mut by_start: Vec<(usize, &Block)> = blocks.iter().enumerate().collect();
        by_start.sort_by_key(|(i, b)| (b.life.start, *i));
        let mut alive: Vec<(usize, &Block)> = Vec::new();
        for (i, block) in by_start {
            alive.retain(|(_, b)| b.life.end >= block.life.start);
            for &(j, other) in &alive {
                if block.size > 0 && other.size > 0 {
                    let (mine, theirs) = (rules.get(&(i, j)).copied(), rules.get(&(j, i)).copied());
                    let seen = |read: Option<Rule>, written: Option<Rule>| {
                        read.map(|r| (r, true)).or(written.map(|r| (r, false)))
                    };
                    if let Some(list) = neighbours.get_mut(i) {
                        list.push(Neighbour { block: j, rule: seen(mine, theirs) });
                    }
                    if let Some(list) = neighbours.get_mut(j) {
                        list.push(Neighbour { block: i, rule: seen(theirs, mine) });
                    }
                }
            }
            alive.push((i, block));
        }
        let floor = floor(blocks, sharings);
        Problem { blocks, neighbours, align, floor }
    }

    /// The greedy orders.
    fn orders(&self) -> Vec<Vec<usize>> {
        let duration = |b: &Block| b.life.end - b.life.start + 1;
        type Key<'k> = &'k dyn Fn(&Block) -> (usize, usize, usize);
        let busiest = busiest(self.blocks);
        let away = |b: &Block| b.life.start.saturating_sub(busiest).max(busiest.saturating_sub(b.life.end));
        let keys: [Key<'_>; 5] = [
            &|b| (usize::MAX - b.size, b.life.start, 0),
            &|b| (usize::MAX - b.size.saturating_mul(duration(b)), b.life.start, 0),
            &|b| (b.life.start, usize::MAX - b.size, 0),
            &|b| (usize::MAX - duration(b), usize::MAX - b.size, 0),
            &|b| (away(b), usize::MAX - b.size, usize::MAX - duration(b)),
        ];
        keys.iter()
            .map(|key| {
                let mut order: Vec<(usize, &Block)> = self.blocks.iter().enumerate().collect();
                order.sort_by_key(|(i, b)| (key(b), *i));
                order.into_iter().map(|(i, _)| i).collect()
            })
            .collect()
    }

    /// Places blocks in the given order, each at the lowest offset that its placed neighbours allow.
    fn greedy(&self, order: Vec<usize>) -> Placement {
        let mut offsets: Vec<Option<usize>> = vec![None; self.blocks.len()];
        let mut end = 0;
        let mut forbidden: Vec<Forbidden> = Vec::new();
        for &i in &order {
            let (Some(block), Some(neighbours)) = (self.blocks.get(i), self.neighbours.get(i)) else {
                continue;
            };
            forbidden.clear();
            for n in neighbours {
                if let (Some(&Some(at)), Some(other)) = (offsets.get(n.block), self.blocks.get(n.block)) {
                    forbid(&mut forbidden, block.size, at, other.size, n.rule);
                }
            }
            let at = self.lowest(&mut forbidden);
            if let Some(o) = offsets.get_mut(i) {
                *o = Some(at);
            }
            end = end.max(at + block.size);
        }
        Placement { offsets: offsets.into_iter().map(Option::unwrap_or_default).collect(), end, order }
    }

    /// The lowest aligned start outside all intervals.
    fn lowest(&self, forbidden: &mut [Forbidden]) -> usize {
        forbidden.sort_unstable();
        let align = self.align as i128;
        let mut at = 0i128;
        for &(low, high) in forbidden.iter() {
            if low >= at {
                break;
            }
            if at < high {
                at = (high + align - 1).div_euclid(align) * align;
            }
        }
        usize::try_from(at).unwrap_or(usize::MAX)
    }

    /// Moves blocks at the peak forward in the order for as long as that is worth it.
    fn search(&self, mut best: Placement) -> (Vec<usize>, usize) {
        let looks: usize = self.neighbours.iter().map(Vec::len).sum::<usize>().max(1);
        let mut patience = PATIENCE;
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % below.max(1)
        };
        for _ in 0..SEARCH_LOOKS / looks {
            if best.end <= self.floor || patience == 0 {
                break;
            }
            patience -= 1;
            let ends_high = |i: usize| {
                best.offsets.get(i).zip(self.blocks.get(i)).is_some_and(|(o, b)| o + b.size == best.end)
            };
            let peak: Vec<usize> =
                best.order.iter().enumerate().filter(|&(_, &i)| ends_high(i)).map(|(p, _)| p).collect();
            let mut order = best.order.clone();
            let from = match peak.get(random(peak.len())) {
                Some(&p) if random(4) != 0 => p,
                _ => random(order.len()),
            };
            if from < order.len() {
                let moved = order.remove(from);
                order.insert(random(from + 1), moved);
            }
            let found = self.greedy(order);
            if found.end <= best.end {
                if found.end < best.end {
                    patience = PATIENCE;
                }
                best = found;
            }
        }
        let end = if self.blocks.is_empty() { 0 } else { best.end };
        (best.offsets, end)
    }
}

/// Number of pairs alive together, at most.
fn pairs(blocks: &[Block]) -> usize {
    let times = blocks.iter().map(|b| b.life.end + 2).max().unwrap_or(0);
    let mut change = vec![0isize; times];
    for b in blocks {
        for (time, by) in [(b.life.start, 1), (b.life.end + 1, -1)] {
            if let Some(c) = change.get_mut(time) {
                *c += by;
            }
        }
    }
    let (mut alive, mut most) = (0isize, 0isize);
    for c in change {
        alive += c;
        most = most.max(alive);
    }
    blocks.len().saturating_mul(usize::try_from(most).unwrap_or(0))
}

/// Blocks in order of start, each in the lowest gap; nothing is shared.
fn first_fit(blocks: &[Block], align: usize) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    let mut order: Vec<(usize, &Block)> = blocks.iter().enumerate().filter(|(_, b)| b.size > 0).collect();
    order.sort_by_key(|(i, b)| (b.life.start, *i));
    // What is alive, by offset.
    let mut alive: Vec<(usize, &Block)> = Vec::new();
    let mut end = 0;
    for (i, block) in order {
        alive.retain(|(_, b)| b.life.end >= block.life.start);
        let mut at = 0usize;
        let mut position = alive.len();
        for (p, (offset, b)) in alive.iter().enumerate() {
            if offset.saturating_sub(at) >= block.size && *offset >= at {
                position = p;
                break;
            }
            at = at.max((offset + b.size).next_multiple_of(align));
        }
        alive.insert(position, (at, block));
        if let Some(o) = offsets.get_mut(i) {
            *o = at;
        }
        end = end.max(at + block.size);
    }
    (offsets, end)
}

/// The starts that a neighbour of `other` bytes at `at` rules out for a block of `size` bytes.
fn forbid(list: &mut Vec<Forbidden>, size: usize, at: usize, other: usize, rule: Option<(Rule, bool)>) {
    let at = at as i128;
    let (low, high) = (at - size as i128, at + other as i128);
    match rule {
        None => list.push((low, high)),
        // This block is read: it may start from `at + lead` on.
        Some((Rule::AtLeast(lead), true)) => list.push((low, high.min(at + lead as i128))),
        // This block is written: it may start up to `at - lead`.
        Some((Rule::AtLeast(lead), false)) => list.push((low.max(at - lead as i128), high)),
        Some((Rule::Exactly(distance), read)) => {
            let spot = if read { at + distance as i128 } else { at - distance as i128 };
            list.push((low, spot.min(high)));
            list.push((spot.max(low), high));
        }
    }
}

/// At each time, what is alive less what its sharings could save at most: no placement ends below the
/// largest.
fn floor(blocks: &[Block], sharings: &[Sharing]) -> usize {
    let mut saved = BTreeMap::new();
    for s in sharings {
        if let (Some(r), Some(w)) = (blocks.get(s.read), blocks.get(s.written)) {
            *saved.entry(w.life.start).or_insert(0usize) += r.size.min(w.size);
        }
    }
    let alive = alive(blocks);
    let at = |(time, &bytes): (usize, &usize)| bytes.saturating_sub(saved.get(&time).copied().unwrap_or(0));
    alive.iter().enumerate().map(at).max().unwrap_or(0)
}

/// Bytes alive at each time.
pub(super) fn alive(blocks: &[Block]) -> Vec<usize> {
    let times = blocks.iter().map(|b| b.life.end + 1).max().unwrap_or(0);
    let mut change = vec![0i128; times + 1];
    for b in blocks {
        if let Some(c) = change.get_mut(b.life.start) {
            *c += b.size as i128;
        }
        if let Some(c) = change.get_mut(b.life.end + 1) {
            *c -= b.size as i128;
        }
    }
    change.pop();
    let mut sum = 0i128;
    change
        .into_iter()
        .map(|c| {
            sum += c;
            usize::try_from(sum).unwrap_or(0)
        })
        .collect()
}

/// The time at which most bytes are alive.
fn busiest(blocks: &[Block]) -> usize {
    let alive = alive(blocks);
    let most = alive.iter().copied().max().unwrap_or(0);
    alive.iter().position(|&bytes| bytes == most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(size: usize, start: usize, end: usize) -> Block {
        Block { size, life: Life { start, end } }
    }

    fn check(blocks: &[Block], sharings: &[Sharing], offsets: &[usize], end: usize) {
        for (i, a) in blocks.iter().enumerate() {
            assert!(offsets[i] + a.size <= end);
            for (j, b) in blocks.iter().enumerate() {
                let apart = offsets[i] + a.size <= offsets[j] || offsets[j] + b.size <= offsets[i];
                let allowed = |read: usize, written: usize| {
                    let behind = offsets[read] as isize - offsets[written] as isize;
                    sharings.iter().any(|s| {
                        (s.read, s.written) == (read, written)
                            && match s.rule {
                                Rule::AtLeast(lead) => behind >= lead,
                                Rule::Exactly(distance) => behind == distance,
                            }
                    })
                };
                if i != j && a.life.meets(&b.life) {
                    assert!(apart || allowed(i, j) || allowed(j, i), "{i} and {j} meet");
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let blocks: Vec<Block> =
            [64, 128, 192, 64, 256].iter().enumerate().map(|(i, &s)| block(s, i, i + 1)).collect();
        let (offsets, end) = place(&blocks, &[], 64);
        check(&blocks, &[], &offsets, end);
        assert_eq!(end, 320);
    }

    #[test]
    fn in_place_chains_need_one_block() {
        let blocks: Vec<Block> = (0..5).map(|i| block(100, i, i + 1)).collect();
        let sharings: Vec<Sharing> =
            (0..4).map(|i| Sharing { read: i, written: i + 1, rule: Rule::Exactly(0) }).collect();
        let (offsets, end) = place(&blocks, &sharings, 4);
        check(&blocks, &sharings, &offsets, end);
        assert_eq!(end, 100);
    }

    #[test]
    fn a_lead_lets_the_output_follow_the_input() {
        // A pointwise convolution 48×48×8 → 16: the input ends where the output ends.
        let (x, y) = (48 * 48 * 8 * 4, 48 * 48 * 16 * 4);
        let lead = (48 * 48 - 1) * 8 * 4;
        let blocks = [block(x, 0, 1), block(y, 1, 2)];
        let sharings = [Sharing { read: 0, written: 1, rule: Rule::AtLeast(lead) }];
        let (offsets, end) = place(&blocks, &sharings, 4);
        check(&blocks, &sharings, &offsets, end);
        assert_eq!(end, y);
    }

    #[test]
    fn random_blocks_obey_their_rules_and_end_near_the_bound() {
        let mut state = 7u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for round in 0..40 {
            let blocks: Vec<Block> = (0..30)
                .map(|_| {
                    let start = random(40);
                    block(64 * (1 + random(20)), start, start + random(6))
                })
                .collect();
            let mut sharings = Vec::new();
            for (read, x) in blocks.iter().enumerate() {
                for (written, y) in blocks.iter().enumerate() {
                    if round % 2 == 1
                        && read != written
                        && x.life.end == y.life.start
                        && x.life.start < x.life.end
                    {
                        let distance = 64 * (random(20) as isize - 8);
                        let rule =
                            if random(2) == 0 { Rule::Exactly(distance) } else { Rule::AtLeast(distance) };
                        sharings.push(Sharing { read, written, rule });
                    }
                }
            }
            let bound = alive(&blocks).into_iter().max().unwrap();
            let (offsets, end) = first_fit(&blocks, 64);
            check(&blocks, &[], &offsets, end);
            let (offsets, end) = place(&blocks, &sharings, 64);
            check(&blocks, &sharings, &offsets, end);
            assert!(end * 10 <= bound * 12, "{end} bytes where {bound} are alive");
        }
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(place(&[], &[], 64), (Vec::new(), 0));
        assert_eq!(place(&[block(0, 0, 3)], &[], 64), (vec![0], 0));
    }
}
