//! A server of nginx with what becomes of each of its locations.

use std::collections::BTreeSet;

use super::candidate::{Candidate, Converter};
use super::requirement::{Demand, Requirement};
use crate::import::draft::Draft;
use crate::import::nginx::pattern::beginning;
use crate::import::nginx::place::Place;
use crate::import::nginx::search::Search;
use crate::import::nginx::site::{Kind, Location, Site};
use crate::types::excerpt;

/// A server.
pub(crate) struct ConvertedSite<'a> {
    pub(crate) site: &'a Site<'a>,
    pub(crate) search: Search<'a>,
    /// What is asked where no location serves a path.
    pub(crate) own: Demand,
    /// In the order of the locations.
    pub(crate) entries: Vec<Entry>,
    /// The beginnings of paths that are led elsewhere before a location is looked for.
    pub(crate) led_away: Vec<(String, Demand)>,
}

/// What becomes of one location.
pub(crate) struct Entry {
    pub(crate) demand: Demand,
    /// `None`: a regular expression decides, or nothing leads here but nginx itself.
    pub(crate) place: Option<Place>,
    /// How paths begin that the regular expression matches, which this is or stands in.
    pub(crate) beginning: Option<String>,
    /// The route that it would be, or why it is none.
    pub(crate) candidate: Result<Candidate, String>,
}

impl<'a> ConvertedSite<'a> {
    pub(crate) fn new(site: &'a Site<'a>, converter: &mut Converter<'_>, draft: &mut Draft) -> Self {
        let own = Demand::of(site, &site.chain, site.at, &mut converter.gates, draft);
        let lines = site.locations.iter().flat_map(|location| location.chain.effective("auth_request"));
        let asked: BTreeSet<&str> =
            lines.map(|line| line.arg(0).split('?').next().unwrap_or_default()).filter(|uri| *uri != "off").collect();
        let mut entries: Vec<Entry> = Vec::with_capacity(site.locations.len());
        for location in &site.locations {
            // What stands in a location comes behind it in the list.
            let outer = location.parent.and_then(|parent| entries[parent].beginning.clone());
            let is_asked = location.kind == Kind::Exact && asked.contains(location.path.as_str());
            entries.push(Entry::new(site, location, outer, is_asked, converter, draft));
        }
        let redirects = |flag: &str| matches!(flag, "redirect" | "permanent");
        let rewrites = site.chain.own("rewrite").into_iter().filter(|line| !redirects(line.arg(2)));
        let led_away = rewrites.map(|line| {
            let why = "`rewrite` of its server led elsewhere".to_owned();
            (beginning(line.arg(0), false), Demand { asked: Requirement::Nobody, at: line.at, why })
        });
        let answers = site.chain.own("return").into_iter().take(1).map(|line| {
            let why = "its server has `return`".to_owned();
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
        is_asked: bool,
        converter: &mut Converter<'_>,
        draft: &mut Draft,
    ) -> Self {
        let file = converter.nginx.file;
        let demand = Demand::of(site, &location.chain, location.at, &mut converter.gates, draft);
        let none = |beginning: Option<String>| Self {
            demand: demand.clone(),
            place: None,
            beginning,
            candidate: Err(String::new()),
        };
        let shown = excerpt(&location.path);
        match location.kind {
            Kind::Named => {
                let text = "a `location @name` has no counterpart: what led to it is not carried over either";
                draft.note(file, location.at, text);
                none(outer)
            }
            Kind::Regex => {
                let text = format!(
                    "`location ~ {shown}` is a regular expression, and routes are prefixes: requests for it go to the route of the longest prefix, which asks no less of callers, so write routes for what it did"
                );
                draft.note(file, location.at, text);
                none(Some(beginning(&location.path, location.ignores_case())))
            }
            Kind::Exact | Kind::Prefix if outer.is_some() => {
                let text = format!("`location {shown}` stands in a regular expression: it is left out");
                draft.note(file, location.at, text);
                none(outer)
            }
            Kind::Exact | Kind::Prefix => {
                let place = Place::of(&location.path, location.kind == Kind::Prefix);
                if place.own.is_none() {
                    let text = format!("`location {shown}` is no path that a route can have: it is left out");
                    draft.note(file, location.at, text);
                    return Self { place: Some(place), ..none(None) };
                }
                let candidate = converter.candidate(site, location, is_asked, draft);
                Self { demand, place: Some(place), beginning: None, candidate }
            }
        }
    }
}
