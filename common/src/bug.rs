//! Bugs, put in on purpose to show that the simulator catches them: a check that never failed proves nothing.
//!
//! Whoever asks whether a bug is in is told no, by a constant that the compiler takes out, unless the feature `bugs` is
//! on. Only the simulator's own feature of that name turns it on, and only `put_in` then puts one in, for its thread.

/// The bugs, each with its name and the sentence that says what it does.
macro_rules! bugs {
    ($($(#[doc = $text:literal])+ $bug:ident = $name:literal,)+) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $text])+ $bug,)+
        }

        #[cfg(feature = "bugs")]
        impl Bug {
            /// Every bug.
            pub const ALL: &[Bug] = &[$(Bug::$bug),+];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name,)+ }
            }

            /// What it does.
            pub fn text(self) -> &'static str {
                match self { $(Bug::$bug => concat!($($text),+).trim_ascii(),)+ }
            }
        }
    };
}

bugs! {
    // Durability and quorums of writes.
    /// A coordinator counts its own write before it is durable.
    AcksBeforeDurable = "acks-before-durable",
    /// An owner acknowledges what it was told before it is durable.
    OwnerAcksBeforeDurable = "owner-acks-before-durable",
    /// A write is acknowledged with one owner too few.
    WritesToOneTooFew = "writes-to-one-too-few",
    /// While a partition moves a write needs its old owners alone.
    CountsOldOwnersOnly = "counts-old-owners-only",
    /// A write that is under way when the ring changes keeps the quorum of the earlier ring.
    KeepsOldQuorum = "keeps-old-quorum",
    /// A removed node leaves though owners lack what it holds.
    LeavesEarly = "leaves-early",

    // Hints.
    /// A node that stands in for an owner acknowledges a hint and does not keep it.
    DropsHints = "drops-hints",
    /// A hint counts though its owner answers.
    CountsHintsOfAnswering = "counts-hints-of-answering",
    /// Hints are never handed over.
    KeepsHints = "keeps-hints",

    // Reads.
    /// A read is answered with one owner too few.
    ReadsOneTooFew = "reads-one-too-few",
    /// A read neither tells owners what they lack nor waits until enough have it.
    RepairsNobody = "repairs-nobody",
    /// What is not durable, or not yet with all owners that it needs, is shown.
    ShowsUnsettled = "shows-unsettled",

    // Versions.
    /// A node's actor is the same after a restart.
    ReusesActor = "reuses-actor",
    /// An actor writes on though a context claims that it wrote more than it did.
    BelievesContexts = "believes-contexts",
    /// A write that an owner calls hidden counts all the same.
    LeavesHidden = "leaves-hidden",
    /// A join takes the versions, and forgets what else the other state has seen.
    ForgetsClock = "forgets-clock",
    /// A write with a context supersedes everything, seen or not.
    DropsContext = "drops-context",
    /// Tombstones are collected at once.
    CollectsTombstones = "collects-tombstones",

    // Request ids.
    /// The ids of requests are forgotten at once.
    ForgetsRequests = "forgets-requests",
    /// The late twin of a superseded write is taken for news.
    TakesLateTwins = "takes-late-twins",
    /// A giver tells of requests whose versions are not durable yet.
    TellsUndurableRequests = "tells-undurable-requests",
    /// A receiver takes up requests before the records that they speak of.
    LearnsRequestsFirst = "learns-requests-first",

    // Rings and changes.
    /// A node goes back to an older ring.
    TakesOldRing = "takes-old-ring",
    /// A ring that was set back is not restored from what nodes hold.
    LeavesSetBack = "leaves-set-back",
    /// The next phase of a change waits for nobody.
    WaitsForNobody = "waits-for-nobody",
    /// What a newcomer has copied passes for compared.
    SkipsComparison = "skips-comparison",
    /// A new ring ends forwarded requests without an answer.
    ForgetsForwarded = "forgets-forwarded",

    // Handing over, and lost memory.
    /// An owner says that it has all before it has pulled anything.
    ConfirmsUnpulled = "confirms-unpulled",
    /// Who hands over drops all when one owner has it.
    DropsForOne = "drops-for-one",
    /// A node that lost its memory passes for one that has all.
    CountsMemoryless = "counts-memoryless",
    /// A node that lost its memory compares with one owner.
    FillsFromOne = "fills-from-one",
    /// A node does not say what it lost.
    HidesLoss = "hides-loss",
    /// Owners never compare what they hold.
    NeverCompares = "never-compares",

    // Bounds.
    /// What was told on behind an answer is never taken off the bytes that wait.
    LeaksBytes = "leaks-bytes",
}

#[cfg(feature = "bugs")]
thread_local! {
    static IN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether it is in.
#[cfg(feature = "bugs")]
pub fn on(bug: Bug) -> bool {
    IN.get() == Some(bug)
}

/// Whether it is in: never.
#[cfg(not(feature = "bugs"))]
#[inline(always)]
pub const fn on(_: Bug) -> bool {
    false
}

/// Puts a bug into all that this thread runs from now on, or takes it out.
#[cfg(feature = "bugs")]
pub fn put_in(bug: Option<Bug>) {
    IN.set(bug);
}
