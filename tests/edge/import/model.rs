//! A model of nginx: random configurations, and what nginx does with them. It is written from nginx's manual and its
//! `ngx_http_core_find_location`, independently of the importer. The tests in `nginx` compare it with the real nginx.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// What nginx or the edge requires of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Every caller gets through.
    Nothing,
    /// This authentication server, one of [`PROVIDERS`], must allow the caller.
    Caller(&'static str),
    /// No caller gets through.
    Nobody,
}

impl Requirement {
    /// True if `self` lets no caller through that `before` kept out.
    pub fn is_as_closed_as(self, before: Self) -> bool {
        before == Self::Nothing || self == Self::Nobody || self == before
    }
}

/// The authentication servers. Each has an internal location of its name, which `auth_request` uses.
pub const PROVIDERS: [&str; 2] = ["check", "validate"];

/// The directives of a block, without inherited ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Body {
    /// What answers the requests.
    pub answer: Answer,
    /// The name in `auth_request`. An empty name is `auth_request off`.
    pub auth: Option<&'static str>,
    pub denies: bool,
    pub is_internal: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Answer {
    #[default]
    None,
    /// `proxy_pass`.
    Upstream,
    /// A file, after nginx has checked the caller.
    Content,
    /// `return`, which nginx answers before it checks the caller.
    Return(u16),
    /// `return` beside a `proxy_pass`. nginx answers with the `return`.
    ReturnInstead(u16),
}

#[derive(Clone, Debug)]
pub struct Location {
    /// `=`, `^~`, `~`, `~*` or nothing.
    pub sign: &'static str,
    pub path: String,
    pub body: Body,
    pub inside: Vec<Location>,
}

#[derive(Clone, Debug)]
pub struct Server {
    /// The index of the server's port.
    pub port: usize,
    pub is_default: bool,
    /// The server's names. Empty: no `server_name`.
    pub hosts: Vec<&'static str>,
    /// The directives of the server itself. Its answer is a `root` (`Content`), a `Return` or `None`.
    pub body: Body,
    pub locations: Vec<Location>,
}

/// The parts of a configuration that differ between the importer and the real nginx.
pub struct Words<'w> {
    pub listen: &'w dyn Fn(usize) -> String,
    pub upstream: &'w str,
    /// The URL of one of [`PROVIDERS`].
    pub provider: &'w dyn Fn(&str) -> String,
    /// A folder that contains a file named `file`.
    pub folder: &'w str,
}

impl Server {
    /// The server as a `server` block.
    pub fn text(&self, words: &Words<'_>) -> String {
        let mut text = format!("server {{\n  listen {}", (words.listen)(self.port));
        text.push_str(if self.is_default { " default_server;\n" } else { ";\n" });
        if !self.hosts.is_empty() {
            writeln!(text, "  server_name {};", self.hosts.join(" ")).expect("writing to a `String` cannot fail");
        }
        let content = format!("root {};", words.folder);
        writeln!(text, "  {}", self.body.text(words, &content)).expect("writing to a `String` cannot fail");
        self.locations.iter().for_each(|location| location.write(&mut text, words, 1));
        for name in PROVIDERS {
            let url = (words.provider)(name);
            writeln!(text, "  location = /{name} {{ internal; auth_request off; proxy_pass {url}; }}")
                .expect("writing to a `String` cannot fail");
        }
        text + "}\n"
    }
}

impl Body {
    fn text(self, words: &Words<'_>, content: &str) -> String {
        let pass = format!("proxy_pass {};", words.upstream);
        let answer = match self.answer {
            Answer::None => String::new(),
            Answer::Upstream => pass,
            Answer::Content => content.to_owned(),
            Answer::Return(status @ 300..400) => format!("return {status} /elsewhere;"),
            Answer::Return(status) => format!("return {status};"),
            Answer::ReturnInstead(status) => format!("{pass} return {status};"),
        };
        let auth = match self.auth {
            None => String::new(),
            Some("") => "auth_request off;".to_owned(),
            Some(name) => format!("auth_request /{name};"),
        };
        let denies = if self.denies { "deny all;" } else { "" };
        let internal = if self.is_internal { "internal;" } else { "" };
        [answer.as_str(), &auth, denies, internal].join(" ")
    }
}

impl Location {
    fn write(&self, text: &mut String, words: &Words<'_>, depth: usize) {
        let content = format!("root {}; try_files /file =404;", words.folder);
        let (sign, path, body) = (self.sign, &self.path, self.body.text(words, &content));
        let indent = "  ".repeat(depth);
        writeln!(text, "{indent}location {sign} \"{path}\" {{ {body}").expect("writing to a `String` cannot fail");
        self.inside.iter().for_each(|location| location.write(text, words, depth + 1));
        writeln!(text, "{indent}}}").expect("writing to a `String` cannot fail");
    }

    fn is_exact(&self) -> bool {
        self.sign == "="
    }

    fn is_regex(&self) -> bool {
        self.sign.starts_with('~')
    }

    fn is_prefix(&self) -> bool {
        !self.is_exact() && !self.is_regex()
    }

    fn matches_regex(&self, path: &str) -> bool {
        let path = if self.sign == "~*" { path.to_lowercase() } else { path.to_owned() };
        let regex = if self.sign == "~*" { self.path.to_lowercase() } else { self.path.clone() };
        match (regex.strip_prefix('^'), regex.strip_suffix('$')) {
            (Some(beginning), _) => path.starts_with(beginning),
            (_, Some(end)) => path.ends_with(end),
            _ => path.contains(&regex),
        }
    }
}

/// The regular expressions that [`Location::matches_regex`] understands, with their signs.
const EXPRESSIONS: [(&str, &str); 7] =
    [("~", "^/a/"), ("~", "^/ab"), ("~", "^/b/a/b"), ("~", "/a"), ("~", "b$"), ("~*", "/B/"), ("~*", "^/A")];

/// The result of a search for the locations of a path.
enum Walk<'l> {
    /// Exactly these locations, each inside the one before. No other location is tried.
    End(Vec<&'l Location>),
    /// The longest prefixes, each inside the one before. A regular expression in an outer block may still match.
    Prefixes(Vec<&'l Location>),
    /// nginx redirects with 301 and the client repeats the request with a slash at the end, unless one of these
    /// locations is internal.
    Redirect(Vec<&'l Location>),
}

/// Finds the locations of `path`, as nginx's `ngx_http_core_find_location` does.
fn walk<'l>(locations: &'l [Location], path: &str) -> Walk<'l> {
    let same = |exact: bool, wanted: &str| {
        locations.iter().find(|it| it.path == wanted && if exact { it.is_exact() } else { it.is_prefix() })
    };
    if let Some(exact) = same(true, path) {
        return Walk::End(vec![exact]);
    }
    let slashed = format!("{path}/");
    let candidates = [same(true, &slashed), same(false, &slashed)];
    let is_passed_on =
        |location: &&Location| matches!(location.body.answer, Answer::Upstream | Answer::ReturnInstead(_));
    if same(false, path).is_none() && candidates.iter().flatten().any(is_passed_on) {
        return Walk::Redirect(candidates.into_iter().flatten().take(1).collect());
    }
    let prefixes = locations.iter().filter(|it| it.is_prefix() && path.starts_with(&it.path));
    let prefix = prefixes.max_by_key(|it| it.path.len());
    let mut found = Vec::new();
    if let Some(prefix) = prefix {
        found.push(prefix);
        match walk(&prefix.inside, path) {
            Walk::End(inside) => {
                found.extend(inside);
                return Walk::End(found);
            }
            Walk::Redirect(inside) => {
                found.extend(inside);
                return Walk::Redirect(found);
            }
            Walk::Prefixes(inside) => found.extend(inside),
        }
    }
    if prefix.is_none_or(|prefix| prefix.sign != "^~")
        && let Some(regex) = locations.iter().find(|it| it.is_regex() && it.matches_regex(path))
    {
        // Inside the location of a regular expression, nginx finds only regular expressions. It builds no search tree
        // of the other locations there.
        let of = |it: &&'l Location| it.inside.iter().find(|it| it.is_regex() && it.matches_regex(path));
        return Walk::End(std::iter::successors(Some(regex), of).collect());
    }
    Walk::Prefixes(found)
}

/// How a server handles callers of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    pub required: Requirement,
    /// The answer is a file of a folder. The file may not exist.
    pub from_folder: bool,
}

/// How the server for `host` at `port` handles callers of the decoded `path`. `None`: no server listens at `port`.
pub fn served(servers: &[Server], port: usize, host: &str, path: &str) -> Option<Served> {
    let here = || servers.iter().filter(|server| server.port == port);
    let named = |name: &str| here().find(|server| server.hosts.contains(&name));
    let wildcard = host.split_once('.').and_then(|(_, rest)| named(&format!("*.{rest}")));
    let default = here().find(|server| server.is_default).or(here().next());
    let server = named(host).or(wildcard).or(default)?;
    let answers = |required: Requirement| Some(Served { required, from_folder: false });
    let returns = |status: u16| answers(if status < 400 { Requirement::Nothing } else { Requirement::Nobody });
    if let Answer::Return(status) = server.body.answer {
        return returns(status);
    }
    if PROVIDERS.iter().any(|name| path == format!("/{name}")) {
        return answers(Requirement::Nobody);
    }
    let found = match walk(&server.locations, path) {
        Walk::End(found) | Walk::Prefixes(found) => found,
        Walk::Redirect(through) if through.iter().any(|it| it.body.is_internal) => return answers(Requirement::Nobody),
        Walk::Redirect(_) => return served(servers, port, host, &format!("{path}/")),
    };
    let bodies: Vec<Body> = [server.body].into_iter().chain(found.iter().map(|location| location.body)).collect();
    let answer = bodies[bodies.len() - 1].answer;
    let from_folder = match answer {
        Answer::None => bodies.iter().any(|body| body.answer == Answer::Content),
        Answer::Content => found.is_empty(),
        _ => false,
    };
    let required = match answer {
        // If a location is internal, the locations inside it are internal, too.
        _ if bodies.iter().any(|body| body.is_internal) => Requirement::Nobody,
        Answer::Return(status) | Answer::ReturnInstead(status) => return returns(status),
        Answer::None if !from_folder => Requirement::Nobody,
        _ if bodies.iter().any(|body| body.denies) => Requirement::Nobody,
        _ => match bodies.iter().rev().find_map(|body| body.auth) {
            None | Some("") => Requirement::Nothing,
            Some(name) => Requirement::Caller(name),
        },
    };
    Some(Served { required, from_folder })
}

fn body() -> impl Strategy<Value = Body> {
    let answer = select(vec![
        Answer::Upstream,
        Answer::Upstream,
        Answer::Upstream,
        Answer::Upstream,
        Answer::Upstream,
        Answer::None,
        Answer::Content,
        Answer::Return(403),
        Answer::Return(302),
        Answer::ReturnInstead(404),
    ]);
    let auth = select(vec![None, None, Some(""), Some("check"), Some("validate")]);
    let (denies, is_internal) = (proptest::bool::weighted(0.1), proptest::bool::weighted(0.05));
    (answer, auth, denies, is_internal).prop_map(|(answer, auth, denies, is_internal)| Body {
        answer,
        auth,
        denies,
        is_internal,
    })
}

/// A path, or a part to append to a path. A character that clients can write in two ways (`:` and `%3A`) is rare,
/// because the importer closes many paths around it.
fn path(most: usize) -> impl Strategy<Value = String> {
    let segment = prop_oneof![8 => "[ab]{1,2}", 1 => Just("a:b".to_owned())];
    let segments = proptest::collection::vec(segment, 0..most);
    (segments, any::<bool>()).prop_map(|(segments, slash)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash || path.is_empty() { path + "/" } else { path }
    })
}

/// The sign and the path of a location, before its outer location is known.
fn head() -> impl Strategy<Value = (&'static str, String)> {
    let of_path = |sign: &'static str| path(4).prop_map(move |path| (sign, path));
    let regex = select(&EXPRESSIONS[..]).prop_map(|(sign, regex)| (sign, regex.to_owned()));
    prop_oneof![6 => of_path(""), 2 => of_path("="), 1 => of_path("^~"), 1 => regex]
}

fn location(depth: u32) -> BoxedStrategy<Location> {
    let inside = match depth {
        0 => Just(Vec::new()).boxed(),
        _ => proptest::collection::vec(location(depth - 1), 0..3).boxed(),
    };
    let inside = prop_oneof![2 => Just(Vec::new()), 1 => inside];
    (head(), body(), inside)
        .prop_map(|((sign, path), body, inside)| {
            let mut outer = Location { sign, path, body, inside: Vec::new() };
            // In nginx, the path of an inner location must begin with the path of the outer one. An exact location
            // contains no others.
            if !outer.is_exact() && outer.path.starts_with('/') {
                let inside = inside.into_iter().map(|inner| inner.below(&outer.path));
                outer.inside = distinct(inside.collect());
            }
            outer
        })
        .boxed()
}

impl Location {
    /// The same location below the path `outer`, with the locations inside it.
    fn below(mut self, outer: &str) -> Self {
        if self.is_regex() {
            self.inside.clear();
        } else {
            let rest = self.path.clone();
            // Sometimes the inner path continues the last segment of the outer one.
            self.path = match outer.ends_with('/') {
                true => format!("{outer}{}", rest.trim_start_matches('/')),
                false if rest.len() > 4 => format!("{outer}{}", rest.trim_start_matches('/')),
                false => format!("{outer}{rest}"),
            };
            // Two levels of inner locations are enough.
            let inside = std::mem::take(&mut self.inside).into_iter().filter(|_| !self.is_exact());
            let plain = inside.map(|inner| Self { inside: Vec::new(), ..inner }.below(&self.path));
            self.inside = distinct(plain.collect());
        }
        self
    }
}

/// Drops repeated locations, which nginx refuses, and locations with an empty segment, which no request reaches.
fn distinct(locations: Vec<Location>) -> Vec<Location> {
    let mut seen = std::collections::BTreeSet::new();
    let mut is_new =
        |it: &Location| !it.path.contains("//") && seen.insert((it.is_exact(), it.is_regex(), it.path.clone()));
    locations.into_iter().filter(|it| is_new(it)).collect()
}

fn locations() -> impl Strategy<Value = Vec<Location>> {
    proptest::collection::vec(location(2), 1..7).prop_map(distinct)
}

fn server() -> impl Strategy<Value = Server> {
    let hosts = prop_oneof![
        2 => Just(Vec::new()),
        3 => subsequence(vec!["a.x", "*.x", "b.y", "z"], 1..3),
    ];
    let answer = prop_oneof![8 => Just(Answer::None), 1 => Just(Answer::Content), 1 => Just(Answer::Return(403))];
    let auth = prop_oneof![4 => Just(None), 1 => select(&PROVIDERS[..]).prop_map(Some)];
    let body = (answer, auth, proptest::bool::weighted(0.05)).prop_map(|(answer, auth, denies)| Body {
        answer,
        auth,
        denies,
        is_internal: false,
    });
    (0..2_usize, any::<bool>(), hosts, body, locations())
        .prop_map(|(port, is_default, hosts, body, locations)| Server { port, is_default, hosts, body, locations })
}

/// One server, or several servers that may share ports and hosts.
pub fn servers() -> impl Strategy<Value = Vec<Server>> {
    let some = proptest::collection::vec(server(), 2..4).prop_map(|mut servers| {
        // nginx allows one default server for each port.
        for port in 0..2 {
            let defaults = servers.iter_mut().filter(|server| server.port == port && server.is_default);
            defaults.skip(1).for_each(|server| server.is_default = false);
        }
        servers
    });
    prop_oneof![3 => server().prop_map(|server| vec![server]), 1 => some]
}

/// A server whose locations are prefixes of whole segments. The importer has no reason to close any of their paths.
pub fn plain_server() -> impl Strategy<Value = Server> {
    let auth = select(vec![None, Some("check"), Some("validate")]);
    let location = ("(/[ab]{1,2}){0,3}/", auth).prop_map(|(path, auth)| Location {
        sign: "",
        path,
        body: Body { answer: Answer::Upstream, auth, ..Body::default() },
        inside: Vec::new(),
    });
    proptest::collection::vec(location, 1..7).prop_map(|locations| Server {
        port: 0,
        is_default: false,
        hosts: Vec::new(),
        body: Body::default(),
        locations: distinct(locations),
    })
}

/// The path of a request as a client sends it. Some characters are percent-encoded without need.
pub fn requested() -> impl Strategy<Value = String> {
    let segment = prop_oneof![12 => "[ab]{1,2}", 2 => select(&["a:b", "a%3Ab", "%61", "A", "B", "ba:b"][..]).prop_map(str::to_owned)];
    (proptest::collection::vec(segment, 0..5), any::<bool>()).prop_map(|(segments, slash)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash || path.is_empty() { path + "/" } else { path }
    })
}

/// The decoded path, which nginx compares with locations.
pub fn decoded(path: &str) -> String {
    path.replace("%3A", ":").replace("%61", "a")
}

/// The hosts of requests.
pub const HOSTS: [&str; 4] = ["a.x", "c.x", "b.y", "else"];
