//! What keeps the tree readable: module docs, sizes, the same files in every component, and documents that say what is
//! there. Judges no behaviour.

use std::collections::BTreeSet;
use std::path::Path;

use crate::tree::{exists, files, read, resolves, root};

/// Longer files are a design question, not a formatting one.
const LINES_MAX: usize = 600;

/// Files that may be longer, and why.
const LONG: [(&str, &str); 1] = [(
    "sinks/dashboard/page/src/lib/api.ts",
    "generated from the Rust types",
)];

/// Left in the code, these are a promise that nobody keeps.
const LOOSE_ENDS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
];

/// Folders whose packages all have the same files inside.
const COMPONENTS: [(&str, [&str; 2]); 2] = [
    ("collectors", ["parse.rs", "probe.rs"]),
    ("sinks", ["render.rs", "deliver.rs"]),
];

/// Documents whose links, paths and commands must hold.
fn documents() -> Vec<String> {
    files(".md")
}

#[test]
fn every_source_says_what_it_is_for() {
    let sources = files(".rs");
    let silent: Vec<_> = sources
        .iter()
        .filter(|path| !read(path).starts_with("//! "))
        .collect();
    assert!(
        silent.is_empty(),
        "these begin without a //! paragraph: {silent:#?}"
    );
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
}

#[test]
fn nothing_is_left_loose() {
    let mut found = Vec::new();
    for ending in [
        ".rs", ".ts", ".svelte", ".mjs", ".css", ".toml", ".md", "Makefile",
    ] {
        for path in files(ending) {
            for (number, line) in read(&path).lines().enumerate() {
                if LOOSE_ENDS.iter().any(|word| line.contains(word)) {
                    found.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_outgrows_its_reader() {
    let mut long = Vec::new();
    for path in files(".rs")
        .into_iter()
        .chain(files(".ts"))
        .chain(files(".svelte"))
    {
        let lines = read(&path).lines().count();
        let excused = LONG.iter().any(|(name, _)| *name == path);
        if lines > LINES_MAX && !excused {
            long.push(format!("{path}: {lines} lines"));
        }
        assert!(
            lines > LINES_MAX || !excused,
            "{path} is short enough: take it off LONG"
        );
    }
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:#?}");
}

#[test]
fn components_have_the_same_shape() {
    let mut odd = Vec::new();
    let mut seen = 0;
    for (family, parts) in COMPONENTS {
        for folder in folders_in(family) {
            seen += 1;
            let path = format!("{family}/{folder}");
            let readme = if exists(&format!("{path}/README.md")) {
                read(&format!("{path}/README.md"))
            } else {
                String::new()
            };
            if readme.is_empty() {
                odd.push(format!("{path}: no README.md"));
            }
            if folder == "kit" {
                continue;
            }
            for wanted in ["src/config.rs", "src/lib.rs", "src/part.rs", "example.toml"] {
                if !exists(&format!("{path}/{wanted}")) {
                    odd.push(format!("{path}: no {wanted}"));
                }
            }
            for part in parts {
                if !exists(&format!("{path}/src/{part}")) && !readme.contains(&format!("no `{part}`")) {
                    odd.push(format!(
                        "{path}: no src/{part}, and its README does not say why (\"There is no `{part}`: …\")"
                    ));
                }
            }
            let usual = [
                &["config.rs", "lib.rs", "main.rs", "part.rs", "testing.rs"][..],
                &parts[..],
            ]
            .concat();
            for name in sources_in(&path)
                .iter()
                .filter(|name| !usual.contains(&name.as_str()))
            {
                let stem = name.trim_end_matches(".rs");
                if ![
                    format!("`{name}`"),
                    format!("`{stem}`"),
                    format!("`{stem}.rs`"),
                    format!("`{stem}/`"),
                ]
                .iter()
                .any(|spelt| readme.contains(spelt))
                {
                    odd.push(format!(
                        "{path}: src/{name} is an odd file; give its reason in the README"
                    ));
                }
            }
        }
    }
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(seen >= 7, "components are missing: {seen}");
}

#[test]
fn every_package_has_a_readme() {
    let without: Vec<_> = files("Cargo.toml")
        .into_iter()
        .map(|path| path.trim_end_matches("Cargo.toml").to_owned() + "README.md")
        .filter(|path| !exists(path))
        .collect();
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn examples_are_toml() {
    let examples = files("example.toml");
    for path in &examples {
        toml::from_str::<toml::Table>(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(examples.len() >= 4, "{examples:?}");
}

#[test]
fn links_and_paths_in_documents_resolve() {
    let mut broken = Vec::new();
    let tops = folders_in("");
    for document in documents() {
        let folder = document.rfind('/').map_or("", |slash| &document[..slash]);
        let text = read(&document);
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = join(folder, target);
            if path.is_none_or(|path| !exists(&path)) {
                broken.push(format!("{document}: [{link}]"));
            }
        }
        for span in code_spans(&text) {
            if is_path(span, &tops) && !resolves(span) && !resolves(&format!("{folder}/{span}")) {
                broken.push(format!("{document}: `{span}`"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn commands_in_documents_exist() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', ' ', '.']))
        .filter_map(|line| {
            line.split_once(':')
                .filter(|(_, rest)| !rest.starts_with('='))
                .map(|(name, _)| name.trim())
        })
        .collect();
    let manifests: String = files("Cargo.toml").iter().map(|path| read(path)).collect();
    let mut broken = Vec::new();
    let mut quoted = 0;
    for document in documents() {
        let text = read(&document);
        for words in text.lines().flat_map(commands) {
            quoted += 1;
            let known = match (words[0], words.get(1)) {
                ("make", Some(target)) => targets.contains(target),
                ("-p", Some(package)) => manifests.contains(&format!("name = \"{package}\"")),
                _ => true,
            };
            if !known {
                broken.push(format!("{document}: {}", words.join(" ")));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}\ntargets: {targets:?}");
    assert!(quoted > 5, "the look for commands is blind");
}

#[test]
fn every_dependency_has_its_reason() {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for path in files("Cargo.toml") {
        let manifest: toml::Table = toml::from_str(&read(&path)).unwrap();
        collect_dependencies(&manifest, &mut used);
    }
    let ours: BTreeSet<String> = files("Cargo.toml")
        .iter()
        .filter_map(|path| {
            toml::from_str::<toml::Table>(&read(path))
                .unwrap()
                .get("package")?
                .get("name")?
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    let used: BTreeSet<String> = used.difference(&ours).cloned().collect();
    let mut told = BTreeSet::new();
    for row in table_rows(&read("docs/dependencies.md")) {
        assert!(
            row.len() == 3 && row.iter().all(|cell| !cell.is_empty()),
            "docs/dependencies.md: {row:?}"
        );
        for name in row[0].split(',') {
            assert!(
                told.insert(name.trim().to_owned()),
                "docs/dependencies.md names {name} twice"
            );
        }
    }
    let missing: Vec<_> = used.difference(&told).collect();
    let idle: Vec<_> = told.difference(&used).collect();
    assert!(
        missing.is_empty() && idle.is_empty(),
        "docs/dependencies.md lacks {missing:?} and has too many: {idle:?}"
    );
    let workspace: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let offered = workspace["workspace"]["dependencies"].as_table().unwrap();
    let unused: Vec<_> = offered
        .keys()
        .filter(|name| !used.contains(*name) && !ours.contains(*name))
        .collect();
    assert!(
        unused.is_empty(),
        "[workspace.dependencies] offers what nobody uses: {unused:?}"
    );
}

#[test]
fn parity_is_proven_or_admitted() {
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    let rows = table_rows(&read("docs/parity.md"));
    for row in &rows {
        let [id, _, state] = row.as_slice() else {
            panic!("docs/parity.md: {row:?} has not three cells")
        };
        if !ids.insert(id.clone()) {
            wrong.push(format!("{id} stands twice"));
        }
        let proofs: Vec<&str> = code_spans(state)
            .filter(|span| span.contains('/') && !span.starts_with('/'))
            .collect();
        let admitted = state.starts_with("not yet") || state.starts_with("declined: ");
        if proofs.is_empty() && !admitted {
            wrong.push(format!(
                "{id}: neither a test, nor \"not yet\", nor \"declined: reason\""
            ));
        }
        wrong.extend(
            proofs
                .iter()
                .filter(|proof| !is_proven(proof))
                .map(|proof| format!("{id}: `{proof}` is not there")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        rows.len() > 100,
        "docs/parity.md was not understood: {} rows",
        rows.len()
    );
    for area in 'A'..='L' {
        assert!(
            ids.iter().any(|id| id.starts_with(area)),
            "area {area} is missing"
        );
    }
}

#[test]
fn the_invariants_name_what_enforces_them() {
    let text = read("ARCHITECTURE.md");
    let tops = folders_in("");
    for number in 1..=12 {
        let label = format!("**I{number}.");
        let rest = text
            .split(&label)
            .nth(1)
            .unwrap_or_else(|| panic!("ARCHITECTURE.md lacks {label}"));
        let section = rest.split("**I").next().unwrap_or_default();
        assert!(
            code_spans(section).any(|span| is_path(span, &tops) && resolves(span)),
            "ARCHITECTURE.md: I{number} names no file that enforces it"
        );
    }
}

#[test]
fn the_page_is_locked_to_versions_and_not_to_a_host() {
    let lock = read("sinks/dashboard/page/package-lock.json");
    assert!(
        !lock.contains("\"resolved\""),
        "package-lock.json names the host that somebody installed from"
    );
    assert!(
        lock.contains("\"integrity\""),
        "package-lock.json holds no hashes"
    );
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let homes = ["/root/", "/home/", "/Users/", "C:\\Users"];
    // This checkout, wherever it stands.
    let here = format!(
        "{}/",
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()
            .unwrap()
            .display()
    );
    let mut found = Vec::new();
    for ending in [
        ".rs", ".md", ".toml", ".json", ".ts", ".svelte", ".mjs", ".yaml", "Makefile", ".ci/run", ".lock",
    ] {
        for path in files(ending)
            .iter()
            .filter(|path| *path != "tests/tests/suite/tidy.rs")
        {
            for line in read(path).lines() {
                let named = homes.iter().any(|place| line.contains(place)) || line.contains(&here);
                if named {
                    found.push(format!("{path}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// `path` or `path::test`, where the file holds a test, a module or a scenario of that name.
fn is_proven(proof: &str) -> bool {
    match proof.split_once("::") {
        Some((path, test)) => {
            exists(path)
                && ["fn ", "test('", "test(\"", "it('", "it(\""]
                    .iter()
                    .any(|word| read(path).contains(&format!("{word}{test}")))
        }
        None => resolves(proof),
    }
}

/// Names of the dependencies of every kind, and of every platform.
fn collect_dependencies(table: &toml::Table, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        match (key.as_str(), value) {
            ("dependencies" | "dev-dependencies" | "build-dependencies", toml::Value::Table(list)) => {
                into.extend(list.keys().cloned());
            }
            ("workspace", _) => {}
            (_, toml::Value::Table(inner)) => collect_dependencies(inner, into),
            _ => {}
        }
    }
}

/// The cells of every row of every table, without heads.
fn table_rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            in_body = false;
        } else if line.chars().all(|c| "|-: ".contains(c)) {
            in_body = true;
        } else if in_body {
            rows.push(
                line.trim_matches('|')
                    .split('|')
                    .map(|cell| cell.trim().to_owned())
                    .collect(),
            );
        }
    }
    rows
}

/// The targets of Markdown links outside code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

/// Text between single backticks on one line, outside fenced blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    let fenced = text.split("```").step_by(2);
    fenced
        .flat_map(str::lines)
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether a span is a path of this repository: it begins with one of its folders, and is no pattern for people.
fn is_path(span: &str, tops: &[String]) -> bool {
    let first = span.split('/').next().unwrap_or_default();
    span.contains('/')
        && tops.iter().any(|top| top == first)
        && !span.contains([' ', '<', '{', '…', ':'])
        && !span.contains("**")
}

/// `make x` and `-p x`, wherever a line quotes a command.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let quoted: Vec<&str> = if line.starts_with("    ") || line.starts_with("$ ") {
        vec![line]
    } else {
        line.split('`').skip(1).step_by(2).collect()
    };
    let mut found = Vec::new();
    for command in quoted {
        let words: Vec<&str> = command
            .split_whitespace()
            .take_while(|word| !word.starts_with('#'))
            .collect();
        let makes = words.first() == Some(&"make");
        if makes && words.len() > 1 {
            found.extend(
                words[1..]
                    .iter()
                    .filter(|word| !word.contains('='))
                    .map(|target| vec!["make", target]),
            );
        }
        if words.contains(&"cargo") {
            found.extend(
                words
                    .windows(2)
                    .filter(|pair| pair[0] == "-p")
                    .map(|pair| pair.to_vec()),
            );
        }
    }
    found
}

fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn folders_in(path: &str) -> Vec<String> {
    names_in(&root().join(path), true)
}

/// Sources and folders directly in `src`.
fn sources_in(path: &str) -> Vec<String> {
    let source = root().join(path).join("src");
    let mut names = names_in(&source, true);
    names.extend(
        names_in(&source, false)
            .into_iter()
            .filter(|name| name.ends_with(".rs")),
    );
    names.retain(|name| name != "tests" && name != "tests.rs");
    names
}

fn names_in(folder: &Path, folders: bool) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let named = entries.flatten().filter(|entry| entry.path().is_dir() == folders);
    let mut names: Vec<String> = named
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| !["target", "node_modules", ".git"].contains(&name.as_str()));
    names.sort();
    names
}
