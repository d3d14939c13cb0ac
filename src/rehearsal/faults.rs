//! Faults: what goes wrong, and at which point. Explicit, or drawn from a seed; the same plan always hits the same place.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// A point where something can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// A connection is made.
    Connect,
    /// A program is started.
    Spawn,
    /// A program reads a piece of its standard input.
    Stdin,
    /// A unit is told to start or restart.
    UnitStart,
    /// A request reaches the Kubernetes API.
    Api,
    /// A download is opened.
    Download,
}

/// Every kind of point.
pub const POINTS: &[Point] =
    &[Point::Connect, Point::Spawn, Point::Stdin, Point::UnitStart, Point::Api, Point::Download];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before anything was done; a new one succeeds.
    ConnectionLost,
    /// It was done, then the connection breaks: nobody learns of it.
    AnswerLost,
    /// All connections to the host break, and new ones fail for so many milliseconds.
    Unreachable(u64),
    /// The file system refuses writes for this one program.
    WriteRefused,
    /// The disk is full for this one program.
    DiskFull,
    /// No answer ever comes.
    Hang,
    /// The program on the server is killed; nothing cleans up after it.
    ScriptKilled,
    /// The unit's first start fails; systemd's next one does not.
    StartFails,
    /// The API answers with this status and does nothing.
    ApiError(u16),
    /// The download breaks off with an error of the connection.
    DownloadBroken,
    /// The download ends early, as if it were complete.
    DownloadTruncated,
    /// The download is answered with this status.
    DownloadStatus(u16),
    /// The download has other content.
    DownloadCorrupt,
    /// The process of xgenctl is killed.
    Killed,
}

impl Fault {
    /// What can happen at a point.
    pub fn possible_at(point: Point) -> &'static [Self] {
        match point {
            Point::Connect => &[Self::ConnectionLost, Self::Unreachable(4_000), Self::Hang, Self::Killed],
            Point::Spawn => &[
                Self::ConnectionLost,
                Self::AnswerLost,
                Self::Unreachable(4_000),
                Self::WriteRefused,
                Self::DiskFull,
                Self::Hang,
                Self::ScriptKilled,
                Self::Killed,
            ],
            Point::Stdin => &[
                Self::ConnectionLost,
                Self::Unreachable(4_000),
                Self::DiskFull,
                Self::Hang,
                Self::ScriptKilled,
                Self::Killed,
            ],
            Point::UnitStart => &[Self::ConnectionLost, Self::AnswerLost, Self::StartFails, Self::Hang, Self::Killed],
            Point::Api => &[
                Self::ConnectionLost,
                Self::AnswerLost,
                Self::ApiError(500),
                Self::ApiError(503),
                Self::ApiError(409),
                Self::Hang,
                Self::Killed,
            ],
            Point::Download => &[
                Self::ConnectionLost,
                Self::DownloadBroken,
                Self::DownloadTruncated,
                Self::DownloadStatus(404),
                Self::DownloadStatus(500),
                Self::DownloadCorrupt,
                Self::Hang,
                Self::Killed,
            ],
        }
    }
}

/// How often each kind of point was passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<Point, u64>);

impl Counts {
    /// How often one was passed.
    pub fn of(&self, point: Point) -> u64 {
        self.0.get(&point).copied().unwrap_or(0)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Which fault happens where. Each happens once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    faults: Vec<(Point, u64, Fault)>,
}

impl Plan {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Something goes wrong the `nth` time (from 1) that a point is passed.
    pub fn at(mut self, point: Point, nth: u64, fault: Fault) -> Self {
        self.faults.push((point, nth, fault));
        self
    }

    /// One to three faults at points that a run with these counts passes. The same seed and counts give the same plan.
    pub fn from_seed(seed: u64, counts: &Counts) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let passed: Vec<Point> = POINTS.iter().copied().filter(|p| counts.of(*p) > 0).collect();
        let mut plan = Self::none();
        let many = *[1, 1, 1, 2, 3].choose(&mut random).unwrap_or(&1);
        for _ in 0..many {
            let Some(point) = passed.choose(&mut random).copied() else { break };
            let nth = random.random_range(1..=counts.of(point));
            if let Some(fault) = Fault::possible_at(point).choose(&mut random) {
                plan = plan.at(point, nth, *fault);
            }
        }
        plan
    }

    /// What was planned.
    pub fn faults(&self) -> &[(Point, u64, Fault)] {
        &self.faults
    }

    /// Takes the fault of this pass of this point, if there is one.
    pub(super) fn take(&mut self, point: Point, nth: u64) -> Option<Fault> {
        let at = self.faults.iter().position(|(p, n, _)| *p == point && *n == nth)?;
        Some(self.faults.remove(at).2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_faults_within_what_was_counted() {
        let counts = Counts(BTreeMap::from([(Point::Spawn, 12), (Point::Api, 3)]));
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let plan = Plan::from_seed(seed, &counts);
            assert_eq!(plan, Plan::from_seed(seed, &counts), "seed {seed}");
            assert!(!plan.faults().is_empty());
            for (point, nth, fault) in plan.faults() {
                assert!((1..=counts.of(*point)).contains(nth), "seed {seed}: {point:?} {nth}");
                assert!(Fault::possible_at(*point).contains(fault), "seed {seed}");
                seen.insert(format!("{point:?} {fault:?}"));
            }
        }
        let possible = Fault::possible_at(Point::Spawn).len() + Fault::possible_at(Point::Api).len();
        assert_eq!(seen.len(), possible, "every fault is drawn by some seed");
    }
}
