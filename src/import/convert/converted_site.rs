//! An nginx server with the result of the conversion for each of its locations.

use std::collections::BTreeSet;

use super::candidate::{Candidate, Converter};
use super::request_field::overwritten;
use super::requirement::{Demand, Requirement};
use crate::config::written::Header;
use crate::import::draft::Draft;
use crate::import::nginx::pattern::beginning;
use crate::import::nginx::place::Place;
use crate::import::nginx::search::Search;
use crate::import::nginx::site::{Kind, Location, Site};

/// A converted server.
pub(crate) struct ConvertedSite<'a> {
    pub(crate) site: &'a Site<'a>,
    pub(crate) search: Search<'a>,
    /// What the server requires for paths that no location serves.
    pub(crate) own: Demand,
    /// One entry for each location, in the order of the locations.
    pub(crate) entries: Vec<Entry>,
    /// The beginnings of paths that `rewrite` or `return` of the server handles before nginx looks for a location.
    pub(crate) led_away: Vec<(String, Demand)>,
}

/// The result for one location.
pub(crate) struct Entry {
    pub(crate) demand: Demand,
    /// `None`: the location is named, or it is a regular expression or inside one.
    pub(crate) place: Option<Place>,
    /// For a regular expression and the locations inside it: the beginning of all paths that the expression matches.
    pub(crate) beginning: Option<String>,
    /// The route for the location, or the reason why there is none.
    pub(crate) candidate: Result<Candidate, String>,
    /// The fields that the location's upstream never gets from clients, and whether it does not get `Authorization`.
    pub(crate) overwritten: (Vec<Header>, bool),
}

impl<'a> ConvertedSite<'a> {
    pub(crate) fn new(site: &'a Site<'a>, converter: &mut Converter<'_>, draft: &mut Draft) -> Self {
        let own = Demand::of(site, &site.chain, site.at, &mut converter.gates, draft);
        let lines = site.locations.iter().flat_map(|location| location.chain.effective("auth_request"));
        let auth_targets: BTreeSet<&str> =
            lines.map(|line| line.arg(0).split('?').next().unwrap_or_default()).filter(|uri| *uri != "off").collect();
        let mut entries: Vec<Entry> = Vec::with_capacity(site.locations.len());
        for location in &site.locations {
            // A location comes before its inner locations in the list, so the entry of `parent` exists.
            let outer = location.parent.and_then(|parent| entries[parent].beginning.clone());
            let is_auth_target = location.kind == Kind::Exact && auth_targets.contains(location.path.as_str());
            let mut entry = Entry::new(site, location, outer, is_auth_target, converter, draft);
            if !location.chain.own("proxy_pass").is_empty() {
                entry.overwritten = overwritten(&location.chain);
            }
            entries.push(entry);
        }
        let redirects = |flag: &str| matches!(flag, "redirect" | "permanent");
        let rewrites = site.chain.own("rewrite").into_iter().filter(|line| !redirects(line.arg(2)));
        let led_away = rewrites.map(|line| {
            let why = "`rewrite` sends requests to another path".to_owned();
            (beginning(line.arg(0), false), Demand { asked: Requirement::Nobody, at: line.at, why })
        });
        let answers = site.chain.own("return").into_iter().take(1).map(|line| {
            let why = "`return` answers all requests".to_owned();
            (String::new(), Demand { asked: Requirement::Nobody, at: line.at, why })
        });
        let led_away = led_away.chain(answers).collect();
        Self { site, search: Search::new(site), own, entries, led_away }
    }
}

impl Entry {
    fn new(
        site: &Site<'_>,
        location: &Location<'_>,
        outer: Option<String>,
        is_auth_target: bool,
        converter: &mut Converter<'_>,
        draft: &mut Draft,
    ) -> Self {
        let file = converter.nginx.file;
        let demand = Demand::of(site, &location.chain, location.at, &mut converter.gates, draft);
        let without_route = |beginning: Option<String>| Self {
            demand: demand.clone(),
            place: None,
            beginning,
            candidate: Err(String::new()),
            overwritten: (Vec::new(), false),
        };
        let shown = location.shown();
        match location.kind {
            Kind::Named => {
                let text =
                    "a `location @name` is not supported: it is left out, and so are the directives that lead to it";
                draft.note(file, location.at, text);
                without_route(outer)
            }
            Kind::Regex => {
                let text = format!(
                    "{shown} is a regular expression, and routes match prefixes: its requests go to the route with the longest matching prefix, whose access requirements are at least as strict. Write routes for what this location did"
                );
                draft.note(file, location.at, text);
                without_route(Some(beginning(&location.path, location.ignores_case())))
            }
            Kind::Exact | Kind::Prefix if outer.is_some() => {
                let text = format!("{shown} is left out: it is inside a regular expression location");
                draft.note(file, location.at, text);
                without_route(outer)
            }
            Kind::Exact | Kind::Prefix => {
                let place = Place::of(&location.path, location.kind == Kind::Prefix);
                if place.own.is_none() {
                    let text = format!("{shown} is left out: a route cannot have this path");
                    draft.note(file, location.at, text);
                    return Self { place: Some(place), ..without_route(None) };
                }
                let candidate = converter.candidate(site, location, is_auth_target, draft);
                Self { place: Some(place), candidate, ..without_route(None) }
            }
        }
    }
}
