use rand::SeedableRng;

use super::*;

const POLICY: AnnouncePolicy = AnnouncePolicy {
    all_trackers: false,
    all_tiers: false,
    min_interval: Duration::from_secs(300),
    backoff: 250,
};

/// A torrent's trackers, and a clock.
struct Talk {
    trackers: Trackers,
    policy: AnnouncePolicy,
    now: Instant,
    rng: StdRng,
}

impl Talk {
    fn new(tiers: &[&[&str]]) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let owned = tiers.iter().map(|tier| tier.iter().map(|url| (*url).to_owned()).collect());
        let (trackers, now) = (Trackers::new(owned, &mut rng), Instant::now());
        let mut talk = Self { trackers, policy: POLICY, now, rng };
        talk.trackers.start(now);
        talk
    }

    /// Who is to be told what now.
    fn due(&mut self) -> Vec<(String, AnnounceEvent)> {
        let due = self.trackers.due(self.now, &self.policy);
        due.into_iter().map(|due| (self.trackers.get(due.tracker).unwrap().url.clone(), due.event)).collect()
    }

    fn id(&self, url: &str) -> TrackerId {
        self.trackers.iter().find(|tracker| tracker.url == url).unwrap().id
    }

    fn reply(&mut self, url: &str) {
        self.reply_with(
            url,
            &AnnounceReply { interval: Some(Duration::from_secs(1_000)), ..Default::default() },
        );
    }

    fn reply_with(&mut self, url: &str, reply: &AnnounceReply) {
        self.trackers.replied(self.id(url), reply, self.now, &self.policy);
    }

    fn fail(&mut self, url: &str) {
        self.fail_with(url, &TrackerError::TimedOut);
    }

    fn fail_with(&mut self, url: &str, error: &TrackerError) {
        self.trackers.failed(self.id(url), error, self.now, &self.policy, &mut self.rng);
    }

    /// Lets time pass until something is due; how long that was, in seconds.
    fn wait(&mut self) -> f64 {
        let at = self.trackers.next_deadline(&self.policy).unwrap();
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        waited.as_secs_f64()
    }

    /// The order in which they stand.
    fn order(&self) -> Vec<&str> {
        self.trackers.iter().map(|tracker| tracker.url.as_str()).collect()
    }
}

fn said(url: &str, event: AnnounceEvent) -> Vec<(String, AnnounceEvent)> {
    vec![(url.to_owned(), event)]
}

#[test]
fn started_comes_first_then_the_interval_passes() {
    let mut talk = Talk::new(&[&["a"]]);
    assert_eq!(talk.due(), said("a", AnnounceEvent::Started));
    assert_eq!((talk.due(), talk.trackers.next_deadline(&POLICY)), (vec![], None), "it is being asked");
    talk.reply("a");
    assert_eq!((talk.due(), talk.wait()), (vec![], 1_000.0));
    assert_eq!(talk.due(), said("a", AnnounceEvent::None));
}

#[test]
fn an_interval_has_a_least() {
    let mut talk = Talk::new(&[&["a"]]);
    talk.due();
    talk.reply_with("a", &AnnounceReply { interval: Some(Duration::from_secs(1)), ..Default::default() });
    assert_eq!(talk.wait(), 300.0);
    talk.due();
    talk.reply_with("a", &AnnounceReply::default());
    assert_eq!(talk.wait(), 1_800.0);
}

#[test]
fn the_next_tier_is_asked_only_when_the_one_before_fails() {
    let mut talk = Talk::new(&[&["a"], &["b"], &["c"]]);
    assert_eq!(talk.due(), said("a", AnnounceEvent::Started));
    talk.fail("a");
    assert_eq!(talk.due(), said("b", AnnounceEvent::Started));
    talk.reply("b");
    let retried = talk.wait();
    assert!((17.0..23.0).contains(&retried), "{retried}");
    assert_eq!(talk.due(), said("a", AnnounceEvent::Started), "the first is not given up");
    talk.reply("a");
    assert_eq!(talk.wait(), 1_000.0);
    assert_eq!(talk.due(), said("a", AnnounceEvent::None), "and has precedence when it is back");
}

#[test]
fn a_tracker_that_works_moves_to_the_front_of_its_tier() {
    let mut talk = Talk::new(&[&["a", "b", "c"], &["d"]]);
    let first = talk.order()[0].to_owned();
    let second = talk.order()[1].to_owned();
    talk.due();
    talk.fail(&first);
    assert_eq!(talk.due(), said(&second, AnnounceEvent::Started));
    talk.reply(&second);
    assert_eq!(talk.order()[..2], [second.as_str(), &first]);
    assert_eq!(talk.order()[3], "d");
    talk.wait();
    assert_eq!(talk.due(), said(&second, AnnounceEvent::None));
}

#[test]
fn the_order_within_a_tier_is_random() {
    let orders = (0..20).map(|seed| {
        let tier = vec!["a".to_owned(), "b".to_owned()];
        Trackers::new([tier], &mut StdRng::seed_from_u64(seed)).list[0].url.clone()
    });
    let orders: Vec<String> = orders.collect();
    assert!(orders.contains(&"a".to_owned()) && orders.contains(&"b".to_owned()));
}

#[test]
fn failures_make_it_rest_longer_and_longer_and_a_success_forgives_them() {
    let mut talk = Talk::new(&[&["a"]]);
    for fails in 1..40_u32 {
        assert_eq!(talk.due(), said("a", AnnounceEvent::Started));
        talk.fail("a");
        let least = f64::from(5 + 25 * fails * fails / 2).min(3_600.0);
        let waited = talk.wait();
        assert!((least..=least * 1.25).contains(&waited), "after {fails}: {waited}");
    }
    talk.due();
    talk.reply("a");
    talk.wait();
    talk.due();
    talk.fail("a");
    assert!(talk.wait() < 23.0);
}

#[test]
fn retries_of_many_torrents_do_not_come_at_once() {
    let mut times = Vec::new();
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..100 {
        let now = Instant::now();
        let mut trackers = Trackers::new([vec!["a".to_owned()]], &mut rng);
        trackers.start(now);
        let due = trackers.due(now, &POLICY);
        trackers.failed(due[0].tracker, &TrackerError::TimedOut, now, &POLICY, &mut rng);
        times.push(trackers.next_deadline(&POLICY).unwrap().duration_since(now).as_millis());
    }
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 90, "{} different times", times.len());
}

#[test]
fn a_tracker_may_say_when_to_come_back_or_never() {
    let refused = |retry| TrackerError::Refused { reason: "no".into(), retry };
    let mut talk = Talk::new(&[&["a"]]);
    talk.due();
    talk.fail_with("a", &refused(Retry::After(Duration::from_secs(600))));
    assert_eq!(talk.wait(), 600.0);
    talk.due();
    talk.fail_with("a", &refused(Retry::Never));
    assert_eq!(talk.trackers.next_deadline(&POLICY), None);
    talk.trackers.force(talk.now, None, false);
    assert_eq!(talk.due().len(), 1, "somebody insists");
}

#[test]
fn completed_is_told_once_and_only_to_those_who_knew_us_before() {
    let mut talk = Talk::new(&[&["a"], &["b"]]);
    talk.due();
    talk.reply("a");
    talk.trackers.complete();
    assert_eq!(talk.due(), said("a", AnnounceEvent::Completed), "at once");
    talk.fail("a");
    assert_eq!(talk.due(), said("b", AnnounceEvent::Started));
    talk.reply("b");
    talk.wait();
    assert_eq!(talk.due(), said("a", AnnounceEvent::Completed), "until it is heard");
    talk.reply("a");
    talk.wait();
    assert_eq!(talk.due(), said("a", AnnounceEvent::None));
    talk.reply("a");
    talk.trackers.stop(true);
    assert_eq!(
        talk.due(),
        [("a".to_owned(), AnnounceEvent::Stopped), ("b".to_owned(), AnnounceEvent::Stopped)]
    );
}

#[test]
fn completed_waits_for_started_and_comes_before_stopped() {
    let mut talk = Talk::new(&[&["a"]]);
    talk.due();
    talk.trackers.complete();
    assert_eq!(talk.due(), []);
    talk.reply("a");
    assert_eq!(talk.due(), said("a", AnnounceEvent::Completed));
    talk.trackers.stop(true);
    assert_eq!(talk.due(), []);
    talk.reply("a");
    assert_eq!(talk.due(), said("a", AnnounceEvent::Stopped));
    talk.reply("a");
    assert_eq!(talk.due(), []);
}

#[test]
fn stopped_is_told_to_those_who_know_of_us_and_only_once() {
    let mut talk = Talk::new(&[&["a"], &["b"]]);
    talk.due();
    talk.fail("a");
    talk.due();
    talk.reply("b");
    talk.trackers.stop(true);
    assert_eq!(talk.due(), said("b", AnnounceEvent::Stopped));
    talk.fail("b");
    assert_eq!((talk.due(), talk.trackers.next_deadline(&POLICY)), (vec![], None));
    talk.trackers.start(talk.now);
    assert_eq!(
        talk.due(),
        [("a".to_owned(), AnnounceEvent::Started), ("b".to_owned(), AnnounceEvent::Started)]
    );
}

#[test]
fn a_start_that_was_answered_after_the_stop_is_taken_back() {
    let mut talk = Talk::new(&[&["a"]]);
    talk.due();
    talk.trackers.stop(true);
    assert_eq!(talk.due(), []);
    talk.reply("a");
    assert_eq!(talk.due(), said("a", AnnounceEvent::Stopped));
}

#[test]
fn everybody_is_asked_if_the_settings_say_so() {
    let urls = |talk: &mut Talk| {
        let mut urls: Vec<String> = talk.due().into_iter().map(|(url, _)| url).collect();
        urls.sort();
        urls.concat()
    };
    let tiers: &[&[&str]] = &[&["a", "b"], &["c", "d"]];
    let mut talk = Talk::new(tiers);
    talk.policy.all_tiers = true;
    assert_eq!(urls(&mut talk).len(), 2);
    let mut talk = Talk::new(tiers);
    talk.policy.all_trackers = true;
    assert_eq!(urls(&mut talk), "ab");
    let mut talk = Talk::new(tiers);
    (talk.policy.all_trackers, talk.policy.all_tiers) = (true, true);
    assert_eq!(urls(&mut talk), "abcd");
}

#[test]
fn who_insists_is_held_back_by_what_the_tracker_asked_for() {
    let mut talk = Talk::new(&[&["a"]]);
    talk.due();
    let reply = AnnounceReply { min_interval: Some(Duration::from_secs(120)), ..Default::default() };
    talk.reply_with("a", &reply);
    talk.trackers.force(talk.now, None, false);
    assert_eq!((talk.due(), talk.wait()), (vec![], 120.0));
    talk.due();
    talk.reply_with("a", &reply);
    talk.trackers.force(talk.now, Some(1), true);
    assert_eq!(talk.due(), [], "that is another one");
    talk.trackers.force(talk.now, Some(0), true);
    assert_eq!(talk.due().len(), 1);
}

#[test]
fn a_tracker_is_there_once_and_not_all_of_a_flood_are() {
    let mut trackers = Trackers::default();
    assert!(trackers.add("a".into(), 1, None).is_some());
    assert!(trackers.add("a".into(), 2, None).is_none());
    (0..1_000).for_each(|n| {
        trackers.add(n.to_string(), 0, None);
    });
    assert_eq!(trackers.iter().len(), MOST_TRACKERS);
    assert!(trackers.iter().is_sorted_by_key(|tracker| tracker.tier));
}
