//! The walls of the house: which crate may know which, and the form of every source file.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand};

/// Lines of a source file at the most.
const MOST_LINES: usize = 500;

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().other_options(["--offline".to_owned()]).exec().unwrap()
}

/// What VDiff's example runs against: nothing of it is in what is built, and the saboteur sees no row.
const FOR_TESTS_ONLY: (&str, &str) = ("converge-vdiff", "converge-chaos");

/// The project's own crates that each of them depends on, for building and for testing too.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata().packages;
    let own: BTreeSet<String> = packages.iter().map(|p| p.name.to_string()).collect();
    let edges = |p: &cargo_metadata::Package| {
        let counts = |d: &&cargo_metadata::Dependency| {
            let for_tests = d.kind == cargo_metadata::DependencyKind::Development;
            own.contains(&d.name) && !(for_tests && FOR_TESTS_ONLY == (p.name.as_str(), d.name.as_str()))
        };
        p.dependencies.iter().filter(counts).map(|d| d.name.clone()).collect()
    };
    packages.iter().map(|p| (p.name.to_string(), edges(p))).collect()
}

#[test]
fn dependencies_run_one_way() {
    let edges = edges();
    let set = |names: &[&str]| names.iter().map(|n| format!("converge-{n}")).collect::<BTreeSet<_>>();
    let all = set(&["mysql", "mover", "vdiff", "chaos", "scenarios", "benches"]);
    assert_eq!(edges.keys().cloned().collect::<BTreeSet<_>>(), all, "a new crate needs a place here");
    assert_eq!(edges["converge-mysql"], set(&[]));
    // The judge must not share the accused's code, and neither may know the saboteur.
    for part in ["converge-mover", "converge-vdiff", "converge-chaos"] {
        assert_eq!(edges[part], set(&["mysql"]), "{part}");
    }
    for (package, dependencies) in &edges {
        let may = package == "converge-benches" || !dependencies.contains("converge-scenarios");
        assert!(may, "{package} depends on converge-scenarios");
        assert!(!dependencies.contains("converge-benches"), "{package} depends on converge-benches");
    }
}

/// All files below the crates, and those of the workspace itself that people read.
fn files() -> Vec<PathBuf> {
    let metadata = metadata();
    let root = metadata.workspace_root.as_std_path();
    let mut files: Vec<PathBuf> =
        ["README.md", "Makefile", "Cargo.toml"].iter().map(|name| root.join(name)).collect();
    let mut folders: Vec<PathBuf> =
        metadata.packages.iter().map(|p| p.manifest_path.parent().unwrap().into()).collect();
    folders.push(root.join(".ci"));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with("runs") => {}
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files
}

/// Files with an extension of the list (or any), each with its text.
fn texts(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let wanted = |path: &Path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        extensions.is_empty() || extensions.contains(&extension)
    };
    let read = |path: PathBuf| std::fs::read_to_string(&path).ok().map(|text| (path, text));
    let texts: Vec<_> = files().into_iter().filter(|p| wanted(p)).filter_map(read).collect();
    assert!(texts.len() > 100 || !extensions.is_empty(), "only {} files were found", texts.len());
    texts
}

fn complain(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

#[test]
fn source_files_are_short_and_say_what_they_are_for() {
    let mut complaints = Vec::new();
    let sources = texts(&["rs"]);
    assert!(sources.len() > 80, "only {} source files were found", sources.len());
    for (path, text) in sources {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            complaints.push(format!("{}: {lines} lines, {MOST_LINES} allowed", path.display()));
        }
        if !text.starts_with("//! ") {
            complaints.push(format!("{}: does not begin with `//! `", path.display()));
        }
        if path.ends_with("mod.rs") {
            complaints.push(format!("{}: `foo.rs` and `foo/bar.rs`, not `mod.rs`", path.display()));
        }
    }
    complain("the form of source files", &complaints);
}

#[test]
fn nothing_is_left_unfinished_in_sources() {
    // Put together here, so that this file does not find itself.
    let unwanted = ["unimplemented", "todo", "dbg"].map(|name| format!("{name}!{}", "("));
    let mut complaints = Vec::new();
    for (path, text) in texts(&["rs"]) {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = unwanted.iter().find(|word| line.contains(*word)) {
                complaints.push(format!("{}:{number}: {word}…", path.display()));
            }
        }
    }
    complain("unfinished code", &complaints);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let places = ["work", "root", "home"].map(|place| format!("/{place}{}", "/"));
    let mut complaints = Vec::new();
    for (path, text) in texts(&[]) {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(place) = places.iter().find(|place| line.contains(*place)) {
                complaints.push(format!("{}:{number}: {place}…", path.display()));
            }
        }
    }
    complain("paths of one machine", &complaints);
}
