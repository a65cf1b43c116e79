//! The places that get routes in one group of hosts.
//!
//! A route gets the requests for its path and for all paths below it, except those of deeper routes. In nginx, several
//! locations of several servers may have served these paths. So a route gets the requirement of the strictest of them.
//! If nginx served some of the paths nowhere, or if the providers differ, the route rejects all requests.

use std::collections::{BTreeMap, BTreeSet};

use super::converted_site::{ConvertedSite, Entry};
use super::hosts::{Group, distance};
use super::requirement::{Demand, Requirement};
use crate::config::written::Host;
use crate::import::nginx::place::{OTHER, covers, decoded, deepest};
use crate::import::nginx::site::{Kind, Location};
use crate::types::canonical_path;

/// A location: the index of its server, and its index in that server. `None`: the server itself.
pub(crate) type Who = (usize, Option<usize>);

/// The servers of a group with the places that get routes.
pub(crate) struct Table<'t, 'a> {
    servers: Vec<(usize, &'t ConvertedSite<'a>)>,
    places: BTreeSet<String>,
    /// For each place, the locations with another place whose requests may go to this place: the indexes of server and
    /// location, and whether all their requests may.
    around: BTreeMap<String, Vec<(usize, usize, bool)>>,
    /// For each beginning, the place that gets the paths with this beginning, unless they go to a deeper place.
    beginnings: BTreeMap<String, Option<String>>,
}

/// How nginx served the paths of a route.
pub(crate) struct Served {
    /// Each demand with its location. For each server, the demands for an unknown path below come first.
    pub(crate) demands: Vec<(Who, Demand)>,
    /// The locations at this place that serve some of the paths. Those that also serve an unknown path below come
    /// first.
    pub(crate) owners: Vec<(usize, usize)>,
    /// The locations that served an unknown path below.
    below: Vec<Who>,
}

impl<'t, 'a> Table<'t, 'a> {
    pub(crate) fn new(group: &Group, converted: &'t BTreeMap<usize, ConvertedSite<'a>>) -> Self {
        let servers: Vec<_> = group.sites.iter().filter_map(|index| Some((*index, converted.get(index)?))).collect();
        let entries = || servers.iter().flat_map(|(_, server)| &server.entries);
        let own: BTreeSet<String> =
            entries().filter_map(|entry| entry.place.as_ref()?.own.clone()).chain(root_of(group)).collect();
        let led_away = servers.iter().flat_map(|(_, server)| &server.led_away).map(|(beginning, _)| beginning);
        let beginnings: BTreeSet<String> =
            entries().filter_map(|entry| entry.beginning.as_ref()).chain(led_away).cloned().collect();
        let folders = beginnings.iter().map(|beginning| folder(beginning).to_owned());
        let is_new =
            |folder: &String| !folder.is_empty() && canonical_path(folder.as_bytes()).is_ok() && !own.contains(folder);
        let extra: BTreeSet<String> = folders.filter(is_new).collect();
        let mut table = Self { servers, places: own, around: BTreeMap::new(), beginnings: BTreeMap::new() };
        // A regular expression gets its own place if it requires more than the locations around it.
        let (own, all) = (table.places.clone(), table.places.union(&extra).cloned().collect());
        table.settle(all, &beginnings);
        let stricter = |place: &&String| {
            let served = table.served(place);
            let below = |(who, _): &&(Who, Demand)| served.below.contains(who);
            let around =
                served.demands.iter().filter(below).fold(Requirement::Nothing, |all, (_, it)| all.and(&it.asked));
            served.demands.iter().fold(around.clone(), |all, (_, it)| all.and(&it.asked)) != around
        };
        let kept: BTreeSet<String> = extra.iter().filter(stricter).cloned().collect();
        table.settle(own.union(&kept).cloned().collect(), &beginnings);
        table
    }

    /// Sets the places, and finds which requests go to which place.
    fn settle(&mut self, places: BTreeSet<String>, beginnings: &BTreeSet<String>) {
        self.places = places;
        self.around = BTreeMap::new();
        for (site, server) in &self.servers {
            for (index, entry) in server.entries.iter().enumerate() {
                for around in entry.place.iter().flat_map(|place| &place.around) {
                    if let Some(place) = deepest(&self.places, &around.path) {
                        self.around.entry(place.to_owned()).or_default().push((*site, index, around.all));
                    }
                }
            }
        }
        let of = |beginning: &String| deepest(&self.places, folder(beginning)).map(str::to_owned);
        self.beginnings = beginnings.iter().map(|beginning| (beginning.clone(), of(beginning))).collect();
    }

    pub(crate) fn places(&self) -> &BTreeSet<String> {
        &self.places
    }

    pub(crate) fn location(&self, site: usize, index: usize) -> Option<(&'t Location<'a>, &'t Entry)> {
        let (_, server) = self.servers.iter().find(|(other, _)| *other == site)?;
        Some((server.site.locations.get(index)?, server.entries.get(index)?))
    }

    /// How well the names of a server match one of `hosts`.
    pub(crate) fn distance(&self, site: usize, hosts: &[Host]) -> usize {
        let server = self.servers.iter().find(|(other, _)| *other == site);
        server.map_or(usize::MAX, |(_, server)| distance(server.site, hosts))
    }

    /// How nginx served all paths of a route at `place`.
    pub(crate) fn served(&self, place: &str) -> Served {
        let path = decoded(place);
        let mut served = Served { demands: Vec::new(), owners: Vec::new(), below: Vec::new() };
        let mut ends: Vec<(usize, usize)> = Vec::new();
        for (site, server) in &self.servers {
            let known = if path.is_empty() { Vec::new() } else { vec![path.clone()] };
            let below = format!("{path}/{OTHER}");
            let paths =
                [below.clone(), format!("{path}/")].into_iter().chain(known).chain(self.others(*site, server, place));
            for path in paths {
                let found = server.search.find(&path);
                let regex = found.regex.into_iter().filter(|index| {
                    let beginning = server.entries[*index].beginning.as_deref();
                    beginning.is_none_or(|beginning| self.touches(beginning, place))
                });
                let who = (*site, found.location);
                let owner = found.location.filter(|index| {
                    let own = server.entries[*index].place.as_ref().and_then(|place| place.own.as_deref());
                    own == Some(place)
                });
                let owners = if path == below { &mut served.owners } else { &mut ends };
                owners.extend(owner.map(|index| (*site, index)));
                if path == below {
                    served.below.push(who);
                }
                for index in [found.location].into_iter().chain(regex.map(Some)) {
                    let demand = index.map_or(&server.own, |index| &server.entries[index].demand);
                    served.demands.push(((*site, index), demand.clone()));
                }
            }
            let away = server.led_away.iter().filter(|(beginning, _)| self.touches(beginning, place));
            served.demands.extend(away.map(|(_, demand)| ((*site, None), demand.clone())));
        }
        ends.retain(|owner| !served.owners.contains(owner));
        ends.dedup();
        served.owners.extend(ends);
        served
    }

    /// Paths of locations with another place that go to a route at `place`.
    fn others(&self, site: usize, server: &ConvertedSite<'_>, place: &str) -> Vec<String> {
        let around = self.around.get(place).into_iter().flatten().filter(|(other, ..)| *other == site);
        let paths = around.flat_map(|(_, index, all)| {
            let location = &server.site.locations[*index];
            let (path, plain) = (&location.path, location.path.trim_end_matches('/'));
            let longer = [format!("{path}{OTHER}"), format!("{plain}/"), format!("{plain}/{OTHER}")];
            let is_prefix = location.kind == Kind::Prefix;
            let longer = longer.into_iter().take(if *all { 3 } else { 1 }).filter(move |_| is_prefix);
            longer.chain(all.then(|| path.clone()))
        });
        paths.collect()
    }

    /// True when a route at `place` gets a path that starts with `beginning`.
    fn touches(&self, beginning: &str, place: &str) -> bool {
        let taker = self.beginnings.get(beginning).and_then(|place| place.as_deref());
        format!("{}/", decoded(place)).starts_with(beginning) || taker == Some(place)
    }

    /// The deepest of `places` above `place`.
    pub(crate) fn around<'p>(places: &'p BTreeSet<String>, place: &str) -> Option<&'p str> {
        deepest(places, &place[..place.rfind('/')?]).filter(|around| covers(around, place))
    }
}

/// The root place, if requests without a route would go to the routes of another host.
fn root_of(group: &Group) -> Option<String> {
    group.falls_through.then(String::new)
}

/// The complete path segments of `beginning`, without a slash at the end.
fn folder(beginning: &str) -> &str {
    beginning.rsplit_once('/').map_or("", |(folder, _)| folder)
}
