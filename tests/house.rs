//! The house rules of the code: imports between the modules of `src/` run one way, folders and files stay small.
//!
//! It reads the `use` declarations and the paths of all files, and follows re-exports to the file that defines a name. Test
//! modules do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files beside each other in one folder.
const FILES_IN_A_FOLDER: usize = 20;
/// Lines of one file.
const LINES_OF_A_FILE: usize = 450;
/// Words of README.md.
const WORDS_OF_THE_README: usize = 1_000;

/// A module path without `crate`; the root is empty.
type Module = Vec<String>;

/// The modules below one crate root.
struct Source {
    /// The text of each module, without comments, strings and test modules.
    modules: BTreeMap<Module, String>,
    /// The modules whose file is a `mod.rs`, or the root.
    folders: BTreeSet<Module>,
    /// What a module re-exports: the name, and the path that it stands for.
    exports: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
}

impl Source {
    fn read(folder: &Path, root: &str) -> Self {
        let mut source = Self { modules: BTreeMap::new(), folders: BTreeSet::new(), exports: BTreeMap::new() };
        for path in rust_files(folder) {
            let relative = path.strip_prefix(folder).expect("it is inside").with_extension("");
            let mut module: Module = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let is_root = relative == Path::new(root);
            let is_folder = is_root || module.last().is_some_and(|last| last == "mod");
            if is_folder {
                module.pop();
                source.folders.insert(module.clone());
            }
            let is_test = module.iter().any(|part| part == "tests" || part == "reference");
            let is_other_root = !is_root && module.len() == 1 && module[0] == "main"
                || module.first().is_some_and(|part| part == "bin");
            if !is_test && !is_other_root {
                let text = fs::read_to_string(&path).expect("it is readable");
                source.modules.insert(module, code_of(&text));
            }
        }
        for (module, text) in &source.modules {
            let exports = uses(text).into_iter().filter(|(is_public, _, _)| *is_public);
            let exports = exports.map(|(_, path, name)| (name, source.absolute(&path, module).unwrap_or(path)));
            source.exports.insert(module.clone(), exports.collect());
        }
        source
    }

    /// `path` from the root of the crate; `None` when it leads to another crate.
    fn absolute(&self, path: &[String], module: &Module) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let join = |base: &[String], rest: &[String]| base.iter().chain(rest).cloned().collect::<Vec<_>>();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some(join(module, rest)),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                Some(join(&module[..module.len().checked_sub(ups)?], &path[ups..]))
            }
            _ => {
                let child = join(module, &path[..1]);
                self.modules.contains_key(&child).then(|| join(module, path))
            }
        }
    }

    /// The module that defines what `path` names.
    fn definer(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
            let module = path[..length].to_vec();
            let Some(name) = path.get(length) else { return Some(module) };
            match self.exports.get(&module).and_then(|exports| exports.get(name)) {
                Some(target) if *target != path[..=length] => {
                    path = target.iter().chain(&path[length + 1..]).cloned().collect();
                }
                _ => return Some(module),
            }
        }
        panic!("re-exports go round in a circle at {path:?}");
    }

    /// From each module, the modules that it uses.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let mut arrows: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
        for (module, text) in &self.modules {
            let private = uses(text).into_iter().filter(|(is_public, _, _)| !is_public).map(|(_, path, _)| path);
            let used = private.chain(paths(text)).filter_map(|path| self.definer(&self.absolute(&path, module)?));
            arrows.insert(module, used.filter(|used| used != module).collect());
        }
        arrows
    }

    /// The folder in which the ways of two modules part, and the parts of it that they are in: a file, a folder, or the
    /// folder's own `mod.rs`.
    fn part(&self, from: &Module, to: &Module) -> (Module, String, String) {
        let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        let name = |module: &Module| module.get(common).cloned().unwrap_or_else(|| "mod".to_owned());
        (from[..common].to_vec(), name(from), name(to))
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Without comments, the insides of strings, and the test module at the end.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut code = String::new();
    for line in text.lines() {
        let mut in_string = false;
        let mut last = ' ';
        let mut chars = line.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '"' if last != '\\' && last != '\'' => in_string = !in_string,
                '/' if !in_string && chars.peek() == Some(&'/') => break,
                _ if in_string => {}
                _ => code.push(char),
            }
            last = char;
        }
        code.push('\n');
    }
    code
}

/// The `use` declarations: whether it is public, the path, and the name that it gets here.
fn uses(text: &str) -> Vec<(bool, Vec<String>, String)> {
    let mut uses = Vec::new();
    let mut begins_line = true;
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let is_declaration = begins_line && (before.is_empty() || before.starts_with("pub"));
        let tail = &rest[at + 4..];
        let end = tail.find(';').unwrap_or(tail.len());
        if is_declaration {
            let mut found = Vec::new();
            expand(&[], &tail[..end], &mut found);
            uses.extend(found.into_iter().map(|(path, name)| (before.starts_with("pub"), path, name)));
            rest = &tail[end..];
        } else {
            rest = tail;
        }
        begins_line = true;
    }
    uses
}

/// The paths of a `use` tree, and the names that they get.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head.trim_end_matches(':'), group.trim_end().strip_suffix('}')),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias.trim())));
    let segments = head.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned);
    let mut path: Vec<String> = prefix.iter().cloned().chain(segments).collect();
    let Some(group) = group else {
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if let Some(name) = alias.map(str::to_owned).or_else(|| path.last().cloned()) {
            found.push((path, name));
        }
        return;
    };
    let (mut depth, mut begin) = (0, 0);
    for (at, char) in group.char_indices().chain([(group.len(), ',')]) {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[begin..at].trim().is_empty() {
                    expand(&path, &group[begin..at], found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// The paths with `::` in code, beside `use` declarations.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut code = String::new();
    let mut in_use = false;
    for line in text.lines() {
        let begins = line.trim_start();
        in_use |= begins.starts_with("use ") || (begins.starts_with("pub") && begins.contains(" use "));
        if !in_use {
            code.push_str(line);
        }
        code.push('\n');
        in_use &= !line.contains(';');
    }
    let is_part = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    let words = code.split(|char| !is_part(char)).filter(|word| word.contains("::") && !word.starts_with("::"));
    words
        .map(|word| word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect())
        .filter(|path: &Vec<String>| path.len() > 1)
        .collect()
}

/// A circle in `arrows`, if there is one.
fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk<'a>(
        at: &'a str,
        arrows: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|seen| *seen == at) {
            return Some(way[begin..].iter().chain([&at]).map(|part| (*part).to_owned()).collect());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = arrows.get(at).into_iter().flatten().find_map(|next| walk(next, arrows, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| walk(start, arrows, &mut Vec::new(), &mut done))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> [(&'static str, Source); 2] {
    [
        ("src", Source::read(&root().join("src"), "lib")),
        ("src/bin/mcp-fleet", Source::read(&root().join("src/bin/mcp-fleet"), "main")),
    ]
}

/// In every folder, the imports between its files and folders run one way. So no file imports another in a circle.
#[test]
fn imports_run_one_way() {
    let mut circles = Vec::new();
    for (name, source) in sources() {
        let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (from, used) in source.arrows() {
            for to in used {
                let (folder, from, to) = source.part(from, &to);
                folders.entry(folder).or_default().entry(from).or_default().insert(to);
            }
        }
        for (folder, arrows) in folders {
            if let Some(circle) = circle(&arrows) {
                circles.push(format!("{name}/{}: {}", folder.join("/"), circle.join(" -> ")));
            }
        }
    }
    assert!(circles.is_empty(), "imports go round in a circle:\n{}", circles.join("\n"));
}

/// The map in `lib.rs` lists the top modules from top to bottom. A module uses only those below it.
#[test]
fn modules_use_only_those_below_them_in_the_map() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("it is there");
    let items = lib.lines().filter_map(|line| line.strip_prefix("//! * ")?.trim_start_matches('[').strip_prefix('`'));
    let map: Vec<&str> = items.filter_map(|item| item.split('`').next()).collect();
    let declared =
        lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let declared: BTreeSet<&str> = declared.collect();
    assert_eq!(map.iter().copied().collect::<BTreeSet<_>>(), declared, "the map lists every module once");
    let [(_, source), _] = sources();
    let place = |module: &Module| map.iter().position(|name| module.first().is_some_and(|first| first == name));
    let mut upward = Vec::new();
    for (from, used) in source.arrows() {
        for to in used {
            if place(from) > place(&to) && place(&to).is_some() {
                upward.push(format!("{} uses {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert!(upward.is_empty(), "these point upward in the map of lib.rs:\n{}", upward.join("\n"));
}

/// Pingora stays in the modules that the map names for it.
#[test]
fn domain_modules_know_nothing_of_pingora() {
    let [(_, source), _] = sources();
    let domain = ["types", "config", "route", "auth", "mcp", "metrics"];
    for (module, text) in &source.modules {
        let is_domain = module.first().is_some_and(|first| domain.contains(&first.as_str()));
        assert!(!(is_domain && text.contains("pingora")), "{} names Pingora", module.join("::"));
    }
}

/// Times are named in `config/limits`, or are defaults of the configuration. (Zero is no limit.)
#[test]
fn no_duration_is_written_into_code() {
    let [(_, source), _] = sources();
    let allowed = |module: &Module| {
        matches!(
            module.iter().map(String::as_str).collect::<Vec<_>>()[..],
            ["config", "limits" | "written", ..] | ["types", "bounds"]
        )
    };
    for (module, text) in source.modules.iter().filter(|(module, _)| !allowed(module)) {
        for (at, _) in text.match_indices("Duration::from_") {
            let argument = text[at..].split_once('(').map_or("", |(_, argument)| argument);
            let is_literal = argument.starts_with(|first: char| first.is_ascii_digit());
            assert!(!is_literal, "{}: move this to config/limits: {}", module.join("::"), &text[at..at + 40]);
        }
    }
}

#[test]
fn folders_and_files_stay_small() {
    for folder in ["src", "tests", "benches"] {
        let mut beside: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for path in rust_files(&root().join(folder)) {
            if path.components().any(|part| part.as_os_str() == "target") {
                continue;
            }
            *beside.entry(path.parent().expect("it has one").to_owned()).or_default() += 1;
            let lines = fs::read_to_string(&path).expect("it is readable").lines().count();
            let is_test = folder == "tests";
            assert!(
                is_test || lines <= LINES_OF_A_FILE,
                "{} has {lines} lines: does it have one subject?",
                path.display()
            );
        }
        for (folder, count) in beside {
            assert!(count <= FILES_IN_A_FOLDER, "{} has {count} files beside each other", folder.display());
        }
    }
}

#[test]
fn the_readme_stays_short() {
    let text = fs::read_to_string(root().join("README.md")).expect("it is there");
    let words = text.split_whitespace().count();
    assert!(words <= WORDS_OF_THE_README, "README.md has {words} words: what of it belongs in docs/?");
}

/// The reader itself: a rule that sees nothing would hold for everything.
#[test]
fn paths_and_uses_are_found() {
    let text = code_of(
        "use super::a::{self, B, c::{D, E as F}};\n\
         pub use x::Y; // use crate::comment::G;\n\
         pub(crate) use self::z::Z;\n\
         fn f() { crate::h::i(\"crate::text::J\"); k::l(); }\n\
         #[cfg(test)]\nmod tests { use crate::tests::M; }",
    );
    let uses: Vec<(bool, String, String)> =
        uses(&text).into_iter().map(|(public, path, name)| (public, path.join("::"), name)).collect();
    let expected = [
        (false, "super::a", "a"),
        (false, "super::a::B", "B"),
        (false, "super::a::c::D", "D"),
        (false, "super::a::c::E", "F"),
        (true, "x::Y", "Y"),
        (true, "self::z::Z", "Z"),
    ];
    assert_eq!(uses, expected.map(|(public, path, name)| (public, path.to_owned(), name.to_owned())));
    let paths: Vec<String> = paths(&text).into_iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["crate::h::i", "k::l"]);
    let circle = circle(&BTreeMap::from(
        [("a", "b"), ("b", "c"), ("c", "b")].map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()]))),
    ));
    assert_eq!(circle, Some(["b", "c", "b"].map(str::to_owned).to_vec()));
}
