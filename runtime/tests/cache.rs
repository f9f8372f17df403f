//! The cache of states: what is put in comes out, bit for bit, or not at all.

#![cfg(unix)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use frostline_runtime::Error;
use frostline_runtime::cache::{Cache, CacheKey, ListedStates, StateDtype, list};
use frostline_schemas::cache::{CacheError, Content, EntryId, Store, clear};
use frostline_schemas::data::Example;
use frostline_schemas::digest::Digest;

const HIDDEN: usize = 6;
const LIMIT: u64 = 1 << 20;
const NONE: [usize; 0] = [];

fn key(frost_line: usize) -> CacheKey {
    CacheKey {
        family: "llama".parse().unwrap(),
        weights: Digest::of(b"weights"),
        config: Digest::of(b"config"),
        frost_line,
        hidden: HIDDEN,
        dtype: StateDtype::F32,
        precision: "f32".into(),
    }
}

/// Examples of 1 to 5 tokens, which `seed` decides on.
fn examples(count: u32, seed: u32) -> Vec<Example> {
    let tokens = |row: u32| (0..=row % 5).map(|position| seed * 10_000 + row * 10 + position).collect();
    (0..count).map(|row| Example::new(u64::from(row) + 1, tokens(row), Vec::new())).collect()
}

/// A state that is different for each token and position.
fn state(tokens: &[u32]) -> Vec<u8> {
    let value = |i: usize| tokens[i / HIDDEN] as f32 + (i % HIDDEN) as f32 / 16.0;
    (0..tokens.len() * HIDDEN).map(value).flat_map(f32::to_ne_bytes).collect()
}

fn keys(entries: &[EntryId]) -> Vec<Digest> {
    entries.iter().map(|entry| entry.key).collect()
}

fn cache(root: &Path, key: CacheKey, limit: u64) -> Cache {
    Cache::new(Store::new(root, limit), key)
}

/// Computes what is missing; returns how many states that were.
fn fill(cache: &mut Cache, examples: &[Example]) -> Result<usize, Error> {
    let mut writer = cache.writer(examples)?;
    let rows = writer.rows().to_vec();
    for &row in &rows {
        writer.add(&examples[row].tokens, &state(&examples[row].tokens))?;
    }
    writer.finish()?;
    Ok(rows.len())
}

fn filled(root: &Path, frost_line: usize, examples: &[Example]) -> Cache {
    let mut cache = self::cache(root, key(frost_line), LIMIT);
    fill(&mut cache, examples).unwrap();
    cache
}

fn holds_all(cache: &Cache, examples: &[Example]) -> bool {
    examples.iter().all(|example| cache.get(&example.tokens).is_some_and(|found| found == state(&example.tokens)))
}

/// Files below the root whose names end so.
fn files(root: &Path, end: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
}

fn segment(root: &Path) -> PathBuf {
    let mut segments = files(root, ".states");
    assert_eq!(segments.len(), 1);
    segments.remove(0)
}

fn used_ago(path: &Path, seconds: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn states_come_back_as_they_were_in_this_run_and_the_next() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(20, 0);
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&examples).unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(fill(&mut cache, &examples).unwrap(), 20);
    assert!(holds_all(&cache, &examples));

    let mut next = self::cache(root.path(), key(2), LIMIT);
    assert!(next.get(&examples[0].tokens).is_none(), "nothing is read before it is asked for");
    assert_eq!(next.missing(&examples).unwrap(), NONE);
    assert!(holds_all(&next, &examples));
    assert_eq!(fill(&mut next, &examples).unwrap(), 0);
}

#[test]
fn equal_rows_are_asked_for_once_and_shared_rows_never_again() {
    let root = tempfile::tempdir().unwrap();
    let mut rows = examples(4, 0);
    rows.extend(examples(4, 0));
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&rows).unwrap(), [0, 1, 2, 3]);
    assert_eq!(fill(&mut cache, &rows).unwrap(), 4);

    let mut other = examples(2, 1);
    other.extend(examples(4, 0));
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&other).unwrap(), [0, 1]);
    assert_eq!(fill(&mut cache, &other).unwrap(), 2);
    assert!(holds_all(&cache, &other));
    assert_eq!(files(root.path(), ".states").len(), 2);
}

#[test]
fn what_decides_on_a_state_keeps_it_apart() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(5, 0);
    let cache = filled(root.path(), 2, &examples);
    assert!(cache.get(&[1, 2, 3]).is_none());
    let changes: [fn(&mut CacheKey); 7] = [
        |key| key.family = "gpt2".parse().unwrap(),
        |key| key.weights = Digest::of(b"others"),
        |key| key.config = Digest::of(b"another"),
        |key| key.frost_line = 3,
        |key| key.hidden = 12,
        |key| key.dtype = StateDtype::Bf16,
        |key| key.precision = "bf16".into(),
    ];
    for change in changes {
        let mut key = key(2);
        change(&mut key);
        assert_eq!(self::cache(root.path(), key, LIMIT).missing(&examples).unwrap().len(), 5);
    }
}

/// Spoils the one segment; the states must be missing then, computed anew and right.
fn rebuilt_after(spoil: impl Fn(&Path)) {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(10, 0);
    drop(filled(root.path(), 2, &examples));
    spoil(&segment(root.path()));
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&examples).unwrap().len(), 10);
    assert_eq!(files(root.path(), ".states"), <[PathBuf; 0]>::default());
    assert_eq!(fill(&mut cache, &examples).unwrap(), 10);
    assert!(holds_all(&cache, &examples));
}

#[test]
fn a_truncated_segment_is_rebuilt() {
    for share in [0, 1, 63, 64, 100, 500, 900, 999] {
        rebuilt_after(|path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() * share / 1000).unwrap();
        });
    }
}

#[test]
fn a_segment_with_bytes_too_many_is_rebuilt() {
    rebuilt_after(|path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, [&bytes[..], &[0; 24]].concat()).unwrap();
    });
    rebuilt_after(|path| {
        let bytes = fs::read(path).unwrap();
        let (header, rest) = bytes.split_at(64);
        fs::write(path, [header, &[0; 24], rest].concat()).unwrap();
    });
}

#[test]
fn a_flipped_bit_in_header_or_index_is_noticed() {
    let length = {
        let root = tempfile::tempdir().unwrap();
        drop(filled(root.path(), 2, &examples(10, 0)));
        fs::metadata(segment(root.path())).unwrap().len()
    };
    let index = length - 40 - 10 * 72;
    for byte in (0..64).step_by(7).chain((index..length).step_by(41)) {
        rebuilt_after(|path| flip(path, byte));
    }
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn a_flipped_bit_in_a_state_costs_that_state_and_is_never_returned() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(10, 0);
    drop(filled(root.path(), 2, &examples));
    // The first state, of one token, is the first after the header.
    flip(&segment(root.path()), 64 + 5);
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&examples).unwrap(), NONE);
    assert!(cache.get(&examples[0].tokens).is_none());
    assert!(holds_all(&cache, &examples[1..]));
    assert_eq!(cache.missing(&examples).unwrap(), [0]);
    assert_eq!(fill(&mut cache, &examples).unwrap(), 1);
    assert!(holds_all(&cache, &examples));
    // The segment it was in is not used by later runs.
    assert_eq!(self::cache(root.path(), key(2), LIMIT).missing(&examples).unwrap().len(), 9);
}

#[test]
fn a_segment_of_another_key_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    drop(filled(root.path(), 2, &examples));
    let from = segment(root.path());
    drop(filled(root.path(), 3, &self::examples(1, 7)));
    let to = files(root.path(), ".states").into_iter().find(|path| *path != from).unwrap();
    fs::copy(&from, to).unwrap();
    assert_eq!(self::cache(root.path(), key(3), LIMIT).missing(&examples).unwrap().len(), 3);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    let mut writer = cache.writer(&examples).unwrap();
    writer.add(&examples[0].tokens, &state(&examples[0].tokens)).unwrap();
    drop(writer);
    assert_eq!(files(root.path(), ".tmp").len() + files(root.path(), ".states").len(), 0);
    assert_eq!(cache.missing(&examples).unwrap().len(), 3);
}

#[test]
fn what_was_added_before_an_early_finish_stays() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    let mut writer = cache.writer(&examples).unwrap();
    writer.add(&examples[1].tokens, &state(&examples[1].tokens)).unwrap();
    // Neither asked for nor twice.
    writer.add(&[1, 2], &state(&[1, 2])).unwrap();
    writer.add(&examples[1].tokens, &vec![0; examples[1].tokens.len() * HIDDEN * 4]).unwrap();
    assert!(writer.add(&examples[2].tokens, &[0; 20]).is_err());
    writer.finish().unwrap();
    assert_eq!(cache.missing(&examples).unwrap(), [0, 2]);
    assert!(holds_all(&cache, &examples[1..2]));
    assert!(cache.get(&[1, 2]).is_none());
}

#[test]
fn what_a_killed_writer_left_is_ignored_and_cleaned_away() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    drop(filled(root.path(), 2, &examples));
    let left = segment(root.path()).with_file_name(".0123456789abcdef.states.fedcba9876543210.tmp");
    fs::copy(segment(root.path()), &left).unwrap();
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&examples).unwrap(), NONE);
    assert!(left.exists());
    fill(&mut cache, &self::examples(3, 1)).unwrap();
    assert!(!left.exists());
}

#[test]
fn the_size_on_disk_is_known_beforehand() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(30, 0);
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    let rows = cache.missing(&examples).unwrap();
    let needed = cache.bytes_needed(&examples, &rows);
    fill(&mut cache, &examples).unwrap();
    assert_eq!(fs::metadata(segment(root.path())).unwrap().len(), needed);
}

#[test]
fn the_least_recently_used_go_first_and_those_in_use_stay() {
    let root = tempfile::tempdir().unwrap();
    let of = |seed| examples(10, seed);
    let mut paths = Vec::new();
    for (seed, ago) in [(0, 400), (1, 300), (2, 200), (3, 100)] {
        // Two keys, in turn.
        drop(filled(root.path(), 1 + seed as usize % 2, &of(seed)));
        let new = files(root.path(), ".states").into_iter().find(|path| !paths.contains(path)).unwrap();
        used_ago(&new, ago);
        paths.push(new);
    }
    let size = fs::metadata(&paths[0]).unwrap().len();
    let there = || paths.iter().map(|path| path.exists()).collect::<Vec<_>>();

    // The oldest is in use; of the others the older two have to go.
    let mut user = self::cache(root.path(), key(1), LIMIT);
    assert_eq!(user.missing(&of(0)).unwrap(), NONE);
    let mut cache = self::cache(root.path(), key(5), 3 * size);
    fill(&mut cache, &of(4)).unwrap();
    assert_eq!(there(), [true, false, false, true]);
    assert!(holds_all(&user, &of(0)) && holds_all(&cache, &of(4)));

    // Using it made it the youngest.
    drop((user, cache));
    let mut cache = self::cache(root.path(), key(6), 3 * size);
    fill(&mut cache, &of(5)).unwrap();
    assert_eq!(there(), [true, false, false, false]);
    // A key of which nothing is left is listed no more.
    assert_eq!(list(root.path()).unwrap().len(), 3);
}

#[test]
fn old_states_of_the_same_key_make_room_too() {
    let root = tempfile::tempdir().unwrap();
    drop(filled(root.path(), 2, &examples(10, 0)));
    let (old, size) = (segment(root.path()), fs::metadata(segment(root.path())).unwrap().len());
    let mut cache = self::cache(root.path(), key(2), size + size / 2);
    fill(&mut cache, &examples(10, 1)).unwrap();
    assert!(!old.exists() && holds_all(&cache, &examples(10, 1)));
}

#[test]
fn more_than_the_limit_is_refused_with_the_cure_and_removes_nothing() {
    let root = tempfile::tempdir().unwrap();
    drop(filled(root.path(), 2, &examples(10, 0)));
    let mut cache = self::cache(root.path(), key(3), 2048);
    let error = cache.writer(&examples(30, 1)).unwrap_err();
    assert!(matches!(error, Error::Cache(CacheError::Limit { limit: 2048, in_use: 0, .. })));
    let said = error.to_string();
    assert!(said.contains("takes 4.3 KiB, but the cache may hold 2.0 KiB"), "{said}");
    assert_eq!(error.setting(), Some("cache_limit"));
    assert!(segment(root.path()).exists());

    let mut user = self::cache(root.path(), key(2), LIMIT);
    user.missing(&examples(10, 0)).unwrap();
    let mut cache = self::cache(root.path(), key(3), 5000);
    let said = cache.writer(&examples(30, 1)).unwrap_err().to_string();
    assert!(said.contains("of which 1.5 KiB are in use"), "{said}");
}

#[test]
fn more_than_the_disk_has_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let upcast = CacheKey { hidden: 1 << 50, ..key(2) };
    let mut cache = self::cache(root.path(), upcast, u64::MAX);
    let error = cache.writer(&examples(1, 0)).unwrap_err();
    assert!(error.to_string().contains("the disk has room for"), "{error}");
    assert_eq!(error.setting(), Some("cache"));
    // No overflow either.
    let wider = CacheKey { hidden: usize::MAX, ..key(2) };
    assert!(self::cache(root.path(), wider, u64::MAX).writer(&examples(5, 0)).is_err());
    assert_eq!(files(root.path(), ".tmp").len(), 0);
}

#[test]
fn of_two_writers_at_once_the_second_waits_and_finds_all_done() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(50, 0);
    let computed: usize = std::thread::scope(|scope| {
        let run = || {
            let mut cache = self::cache(root.path(), key(2), LIMIT);
            let computed = fill(&mut cache, &examples).unwrap();
            assert!(holds_all(&cache, &examples));
            computed
        };
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(computed, 50);
    assert_eq!(files(root.path(), ".states").len(), 1);
}

#[test]
fn writers_of_different_keys_do_not_wait_and_share_the_limit() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(50, 0);
    let (mut one, mut other) = (self::cache(root.path(), key(2), LIMIT), self::cache(root.path(), key(3), 9000));
    let mut writer = one.writer(&examples).unwrap();
    // What the first has not written yet counts already.
    assert!(matches!(other.writer(&examples), Err(Error::Cache(CacheError::Limit { in_use, .. })) if in_use > 7000));
    let mut other = self::cache(root.path(), key(3), LIMIT);
    fill(&mut other, &examples).unwrap();
    for example in &examples {
        writer.add(&example.tokens, &state(&example.tokens)).unwrap();
    }
    writer.finish().unwrap();
    assert!(holds_all(&one, &examples) && holds_all(&other, &examples));
}

#[test]
fn foreign_files_are_neither_read_nor_listed_nor_removed() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    drop(filled(root.path(), 2, &examples));
    let folder = segment(root.path()).parent().unwrap().to_owned();
    let hex = "0".repeat(64);
    let foreign = [
        root.path().join("notes.txt"),
        root.path().join("states-7"),
        root.path().join(format!("{hex}/key.json")),
        folder.join("notes.txt"),
        folder.join("0123456789abcdef.states.bak"),
        folder.join("0123456789ABCDEF.states"),
        outside.path().join("0123456789abcdef.states"),
    ];
    for path in &foreign {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"mine").unwrap();
    }
    // Neither links nor folders of such names are ours.
    std::os::unix::fs::symlink(&foreign[6], folder.join("00000000000000ff.states")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join(format!("states-{hex}"))).unwrap();
    fs::create_dir(folder.join("00000000000000fe.states")).unwrap();

    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&examples).unwrap(), NONE);
    fill(&mut cache, &self::examples(3, 1)).unwrap();
    assert_eq!(list(root.path()).unwrap().iter().map(|listed| listed.examples).collect::<Vec<_>>(), [6]);
    drop(cache);
    assert_eq!(keys(&clear(root.path(), &[]).unwrap().removed), [key(2).digest()]);
    assert!(foreign.iter().all(|path| fs::read(path).unwrap() == b"mine"));
    // The folder that had to stay is used again.
    assert!(holds_all(&filled(root.path(), 2, &examples), &examples));
}

#[test]
fn list_describes_keys_and_clear_removes_them_by_their_beginning() {
    let root = tempfile::tempdir().unwrap();
    assert!(list(&root.path().join("nowhere")).unwrap().is_empty());
    assert_eq!(clear(&root.path().join("nowhere"), &[]).unwrap().bytes, 0);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    for frost_line in [1, 2, 3] {
        drop(filled(root.path(), frost_line, &examples(frost_line as u32, 0)));
    }
    let listed = list(root.path()).unwrap();
    let mut found: Vec<_> = listed.iter().map(|listed| (listed.key.as_ref().unwrap().frost_line, listed)).collect();
    found.sort_by_key(|(frost_line, _)| *frost_line);
    for (frost_line, ListedStates { digest, key: described, examples, bytes, last_used }) in found {
        assert_eq!((described.as_ref(), *digest), (Some(&key(frost_line)), key(frost_line).digest()));
        assert_eq!(*examples, frost_line as u64);
        assert!(*bytes > 0 && last_used.unwrap().elapsed().unwrap_or_default() < Duration::from_secs(3600));
    }

    assert!(matches!(clear(root.path(), &["".into()]), Err(CacheError::Key { found: 3, .. })));
    let refused = clear(root.path(), &[key(1).digest().short(), "x".into()]).unwrap_err();
    assert!(refused.to_string().contains("no keys begin with `x`"), "{refused}");
    assert_eq!(list(root.path()).unwrap().len(), 3);

    let mut user = self::cache(root.path(), key(1), LIMIT);
    user.missing(&examples(1, 0)).unwrap();
    let cleared = clear(root.path(), &[key(1).digest().short(), key(2).digest().to_string()]).unwrap();
    assert_eq!((keys(&cleared.removed), keys(&cleared.in_use)), (vec![key(2).digest()], vec![key(1).digest()]));
    drop(user);
    assert_eq!(clear(root.path(), &[]).unwrap().removed.len(), 2);
    assert!(list(root.path()).unwrap().is_empty());
}

#[test]
fn a_key_whose_description_is_lost_is_listed_and_cleared() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    drop(filled(root.path(), 2, &examples));
    fs::write(segment(root.path()).with_file_name("key.json"), b"{").unwrap();
    assert_eq!(list(root.path()).unwrap()[0].key, None);
    assert_eq!(self::cache(root.path(), key(2), LIMIT).missing(&examples).unwrap(), NONE);
    assert_eq!(clear(root.path(), &[]).unwrap().removed.len(), 1);
    assert_eq!(files(root.path(), "").len(), 0);
}

#[test]
fn clearing_a_cache_that_cannot_be_locked_says_so() {
    let root = tempfile::tempdir().unwrap();
    drop(filled(root.path(), 2, &examples(3, 0)));
    // Permissions do not bind a superuser; a folder instead of the lock file binds all.
    fs::remove_file(root.path().join(".frostline.lock")).unwrap();
    fs::create_dir(root.path().join(".frostline.lock")).unwrap();
    assert!(matches!(clear(root.path(), &[]), Err(CacheError::File { .. })));
    assert_eq!(list(root.path()).unwrap().len(), 1);
}

#[test]
fn a_cache_that_can_only_be_read_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let examples = examples(3, 0);
    drop(filled(root.path(), 2, &examples));
    let path = segment(root.path());
    let folder = path.parent().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o444);
    mode(folder, 0o555);
    let mut cache = self::cache(root.path(), key(2), LIMIT);
    assert_eq!(cache.missing(&examples).unwrap(), NONE);
    assert!(holds_all(&cache, &examples));
    mode(folder, 0o755);
}

#[test]
fn states_in_bf16_take_half_the_bytes() {
    let root = tempfile::tempdir().unwrap();
    let examples = examples(20, 0);
    let halves = |tokens: &[u32]| vec![tokens[0] as u8; tokens.len() * HIDDEN * 2];
    let mut cache = self::cache(root.path(), CacheKey { dtype: StateDtype::Bf16, ..key(2) }, LIMIT);
    let mut writer = cache.writer(&examples).unwrap();
    for example in &examples {
        writer.add(&example.tokens, &halves(&example.tokens)).unwrap();
    }
    writer.finish().unwrap();
    assert!(examples.iter().all(|example| cache.get(&example.tokens) == Some(&halves(&example.tokens)[..])));
    let tokens: usize = examples.iter().map(|example| example.tokens.len()).sum();
    let index = 64 + 40 + 20 * 72;
    assert_eq!(fs::metadata(segment(root.path())).unwrap().len(), (tokens * HIDDEN * 2 + index) as u64);
}

/// Whoever has to change these raises the format number of what changed.
#[test]
fn key_and_segment_are_those_of_this_format() {
    let root = tempfile::tempdir().unwrap();
    drop(filled(root.path(), 2, &examples(3, 0)));
    assert_eq!(key(2).digest().short(), "a0279ed990f9");
    assert_eq!(Digest::of(&fs::read(segment(root.path())).unwrap()).short(), "4d4ceb040d15");
}

#[test]
fn a_folder_is_tagged_as_a_cache_unless_it_was_something_before() {
    let (root, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tag = fs::read(root.path().join("CACHEDIR.TAG"));
    assert!(tag.is_err());
    drop(filled(root.path(), 2, &examples(3, 0)));
    let tag = fs::read(root.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with(b"Signature: 8a477f597d28d172789f06886806bc55"));

    fs::write(home.path().join("notes.txt"), b"mine").unwrap();
    drop(filled(home.path(), 2, &examples(3, 0)));
    assert!(!home.path().join("CACHEDIR.TAG").exists());
}

#[test]
fn of_states_and_gram_matrices_the_least_recently_used_go_first() {
    let root = tempfile::tempdir().unwrap();
    drop(filled(root.path(), 2, &examples(10, 0)));
    let states = segment(root.path());
    let gram = EntryId { content: Content::GramMatrix, key: Digest::of(b"gram") };
    let store = Store::new(root.path(), LIMIT);
    let matrix = store.make_folder(&gram, &"of a head").map(|_| store.only_file(&gram)).unwrap();
    fs::write(&matrix, [0; 1000]).unwrap();
    used_ago(&states, 100);
    used_ago(&matrix, 200);
    let bytes = fs::metadata(&states).unwrap().len();
    Store::new(root.path(), bytes + 500).make_room(400).unwrap();
    assert!(states.exists() && !matrix.exists());

    let matrix = store.make_folder(&gram, &"of a head").map(|_| store.only_file(&gram)).unwrap();
    fs::write(&matrix, [0; 1000]).unwrap();
    Store::new(root.path(), 1500).make_room(400).unwrap();
    assert!(!states.exists() && matrix.exists());
    assert_eq!(keys(&clear(root.path(), &[]).unwrap().removed), [gram.key]);
}
