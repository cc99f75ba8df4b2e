//! The modules of the vocabulary and of the folds know each other in one direction only: no module needs another that needs
//! it, so each can be read, moved and tested without the rest.

use std::collections::{BTreeMap, BTreeSet};

use crate::boundaries::{is_test, without_tests};
use crate::tree::{files, read};

/// By module, those that it names.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_do_not_need_each_other_in_circles() {
    for (folder, known) in [
        ("schemas/src/", ("event", "alert")),
        ("processors/folds/src/", ("incidents", "fold")),
    ] {
        let graph = graph_of(folder);
        let (from, to) = known;
        assert!(
            graph.get(from).is_some_and(|named| named.contains(to)),
            "{folder} was not understood: {graph:#?}"
        );
        if let Some(circle) = circle_in(&graph) {
            panic!("{folder}: {} need each other", circle.join(" -> "));
        }
    }
}

/// The modules directly below the root of a package, and which of the others their code names.
fn graph_of(folder: &str) -> Graph {
    let sources: Vec<String> = files(".rs")
        .into_iter()
        .filter(|path| path.starts_with(folder) && !is_test(path))
        .collect();
    let module_of = |path: &str| {
        let below = path[folder.len()..].split('/').next().unwrap_or_default();
        below.trim_end_matches(".rs").to_owned()
    };
    let modules: BTreeSet<String> = sources.iter().map(|path| module_of(path)).collect();
    let root = without_tests(&read(&format!("{folder}lib.rs")));
    let mut graph = Graph::new();
    for path in sources.iter().filter(|path| !path.ends_with("/lib.rs")) {
        let module = module_of(path);
        let text = without_tests(&read(path));
        let named = named_in(&text).flat_map(|name| modules_behind(&name, &root, &modules));
        let others: Vec<String> = named.filter(|name| *name != module).collect();
        graph.entry(module).or_default().extend(others);
    }
    graph
}

/// What stands behind each `crate::`, the members of a group one by one.
fn named_in(text: &str) -> impl Iterator<Item = String> {
    text.split("crate::").skip(1).flat_map(|rest| {
        let group = rest.strip_prefix('{').and_then(|rest| rest.split_once("};"));
        let paths: Vec<&str> = match group {
            Some((members, _)) => members.split(',').collect(),
            None => vec![rest],
        };
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        paths
            .into_iter()
            .map(move |path| {
                path.trim()
                    .chars()
                    .take_while(|letter| is_part(*letter))
                    .collect()
            })
            .collect::<Vec<String>>()
    })
}

/// The modules that a name below the root belongs to: a module itself, what the root re-exports from one, or the list of
/// folds, which holds all of them.
fn modules_behind(name: &str, root: &str, modules: &BTreeSet<String>) -> Vec<String> {
    if modules.contains(name) {
        return vec![name.to_owned()];
    }
    if name == "SiteFolds" {
        let list = root.split_once("site_folds! {").map_or("", |(_, rest)| rest);
        let list = list.split('}').next().unwrap_or_default();
        let folds = list.lines().filter_map(|line| line.trim().split_once(':'));
        return folds.map(|(module, _)| module.to_owned()).collect();
    }
    let is_name = |item: &str| item.trim() == name;
    root.split("pub use ")
        .skip(1)
        .filter_map(|export| export.split(';').next()?.split_once("::"))
        .filter(|(_, items)| items.trim_matches(['{', '}']).split(',').any(is_name))
        .map(|(module, _)| module.to_owned())
        .collect()
}

/// Some modules of which each names the next, the last one the first.
fn circle_in(graph: &Graph) -> Option<Vec<String>> {
    let mut cleared = BTreeSet::new();
    graph
        .keys()
        .find_map(|module| walk(graph, module, &mut Vec::new(), &mut cleared))
}

fn walk(
    graph: &Graph,
    module: &str,
    path: &mut Vec<String>,
    cleared: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|seen| seen == module) {
        return Some(path[start..].to_vec());
    }
    if cleared.contains(module) {
        return None;
    }
    path.push(module.to_owned());
    let named = graph.get(module).into_iter().flatten();
    let circle = named
        .map(String::as_str)
        .find_map(|next| walk(graph, next, path, cleared));
    path.pop();
    cleared.insert(module.to_owned());
    circle
}
