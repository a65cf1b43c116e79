//! Converts the locations of an nginx configuration to routes and listeners.

use std::collections::{BTreeSet, HashMap, HashSet};

use http::HeaderName;

use super::candidate::{Candidate, Converter};
use super::converted_site::ConvertedSite;
use super::gate::Gates;
use super::hosts::{Group, groups};
use super::pool::Pools;
use super::requirement::{Demand, Requirement};
use super::sources::{Nginx, Scopes};
use super::table::{Served, Table, Who};
use super::{listen, rest};
use crate::config::limits;
use crate::config::text::Position;
use crate::config::written::{Header, Route, RouteAuth};
use crate::import::draft::blank::{CLOSED, blank_route, required, shut};
use crate::import::draft::{Draft, Item};
use crate::import::nginx::site::{Kind, Location, Site, sites};
use crate::import::note::Note;
use crate::types::excerpt;

/// Adds the routes and listeners of an nginx configuration to `draft`. Returns the servers of the scope file that have
/// a route.
pub(crate) fn of_nginx(nginx: Nginx<'_>, scopes: Option<Scopes<'_>>, draft: &mut Draft) -> BTreeSet<String> {
    let sites = sites(nginx.root);
    rest::note(nginx.file, nginx.root, draft);
    let used = used(&nginx, &sites, draft);
    let secured = listen::secured(&sites);
    let ports: BTreeSet<_> = used
        .iter()
        .map(|index| {
            listen::serving(&sites[*index], &secured).iter().map(|bind| bind.address.port()).collect::<BTreeSet<_>>()
        })
        .collect();
    if ports.len() > 1 {
        draft.notes.push(Note::of_output(
            "nginx served different locations on different ports, but every listener of the edge serves every route of its hosts: the strictest access requirements of all ports apply",
        ));
    }
    let groups = groups(&sites, &used);
    let mut converter = Converter {
        nginx,
        scopes,
        pools: Pools::new(nginx.file, nginx.folder, nginx.root),
        gates: Gates::new(nginx.file, nginx.root, scopes.is_some()),
        servers: BTreeSet::new(),
    };
    let in_groups: BTreeSet<usize> = groups.iter().flat_map(|group| group.sites.iter().copied()).collect();
    for site in used.iter().filter(|index| !in_groups.contains(index)).map(|index| &sites[*index]) {
        let text = match site.hosts() {
            (hosts, other) if hosts.is_empty() && !other.is_empty() => {
                "the edge cannot match the names of this server, so its locations are left out: write routes with `hosts`"
            }
            _ => "another server has the names and addresses of this server, so its locations are left out",
        };
        draft.note(nginx.file, site.at, text);
    }
    let converted =
        in_groups.into_iter().map(|index| (index, ConvertedSite::new(&sites[index], &mut converter, draft))).collect();
    for group in &groups {
        Writer { table: Table::new(group, &converted), group, converter: &mut converter, draft }.routes();
    }
    let with_locations: Vec<&Site<'_>> =
        used.into_iter().map(|index| &sites[index]).filter(|site| !site.locations.is_empty()).collect();
    listen::add(nginx.file, nginx.folder, &with_locations, &secured, draft);
    converter.servers
}

/// The servers that forward requests to an upstream, as indexes into `sites`.
fn used(nginx: &Nginx<'_>, sites: &[Site<'_>], draft: &mut Draft) -> Vec<usize> {
    let is_local = |site: &Site<'_>| {
        let binds = listen::binds(site);
        !binds.is_empty() && binds.iter().all(|bind| bind.address.ip().is_loopback())
    };
    let passes = |location: &Location<'_>| !location.chain.own("proxy_pass").is_empty();
    let proxied = |site: &Site<'_>| site.chain.own("return").is_empty() && site.locations.iter().any(passes);
    let all_local = sites.iter().filter(|site| proxied(site)).all(is_local);
    let mut used = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let text = match (proxied(site), all_local || !is_local(site)) {
            (true, true) => {
                used.push(index);
                continue;
            }
            (true, false) => {
                "this server listens on loopback only, but every listener of the edge serves every route of its hosts: the locations of this server are left out"
            }
            (false, _) => {
                "this server forwards no requests to an upstream, for example because it only redirects: the server and its listeners are left out"
            }
        };
        draft.note(nginx.file, site.at, text);
    }
    used
}

/// Writes the routes of one group.
struct Writer<'w, 't, 'a, 'c> {
    table: Table<'t, 'a>,
    group: &'w Group,
    converter: &'w mut Converter<'c>,
    draft: &'w mut Draft,
}

/// The location whose settings the route at a place gets.
#[derive(Clone, Copy)]
struct Chosen<'t, 'a> {
    location: &'t Location<'a>,
    candidate: &'t Candidate,
    /// The index of its server, and its index in that server.
    who: (usize, usize),
}

impl<'t, 'a> Writer<'_, 't, 'a, '_> {
    fn routes(mut self) {
        let places: Vec<(String, Served)> =
            self.table.places().iter().map(|place| (place.clone(), self.table.served(place))).collect();
        let chosen: HashMap<&str, Chosen<'t, 'a>> =
            places.iter().filter_map(|(place, served)| Some((place.as_str(), self.chosen(place, served)?))).collect();
        // Routes of locations come first, in nginx's order. The closed routes follow.
        let mut order: Vec<&(String, Served)> = places.iter().collect();
        let first = |served: &Served| served.owners.iter().min().copied().unwrap_or((usize::MAX, usize::MAX));
        order.sort_by_key(|(place, served)| match chosen.get(place.as_str()) {
            Some(chosen) => (false, chosen.who),
            None => (true, first(served)),
        });
        let with_route: BTreeSet<String> = chosen.keys().map(|place| (*place).to_owned()).collect();
        for (place, served) in order {
            match chosen.get(place.as_str()) {
                Some(chosen) => self.route(*chosen, served),
                None => {
                    let around = Table::around(&with_route, place).and_then(|around| chosen.get(around).copied());
                    self.closed(place, served, around);
                }
            }
        }
    }

    /// The location whose settings the route at `place` gets. Locations of the servers that have the name of a host are
    /// preferred, then locations that also serve the paths below.
    /// `None`: no location can become the route.
    fn chosen(&self, place: &str, served: &Served) -> Option<Chosen<'t, 'a>> {
        let of = |who: &(usize, usize)| {
            let (location, entry) = self.table.location(who.0, who.1)?;
            Some(Chosen { location, candidate: entry.candidate.as_ref().ok()?, who: *who })
        };
        // The default server of an address may have another upstream than the server that has the name of a host.
        let distance = |who: &(usize, usize)| self.table.distance(who.0, &self.group.hosts);
        let nearest = served.owners.iter().map(distance).min()?;
        let chosen = served.owners.iter().filter(|who| distance(who) == nearest).find_map(of)?;
        // `location = /` would become a route for all paths. If it must be closed, it would close all paths.
        let is_alone = place.is_empty() && chosen.location.kind == Kind::Exact && !self.group.falls_through;
        let requirement = served.demands.iter().fold(Requirement::Nothing, |all, (_, demand)| all.and(&demand.asked));
        (!is_alone || requirement != Requirement::Nobody).then_some(chosen)
    }

    fn route(&mut self, chosen: Chosen<'t, 'a>, served: &Served) {
        let file = self.converter.nginx.file;
        let Chosen { location, candidate, who } = chosen;
        let mut item = candidate.item.clone();
        for owner in served.owners.iter().filter(|owner| **owner != who) {
            let Some((other, entry)) = self.table.location(owner.0, owner.1) else { continue };
            let text = match &entry.candidate {
                Ok(candidate) if candidate.item.value == item.value => continue,
                Ok(_) => {
                    format!(
                        "{} is left out: it matches the same requests as the location in line {}, which becomes the route",
                        other.shown(),
                        location.at.0
                    )
                }
                Err(why) => {
                    format!(
                        "{} is left out because {why}: its requests go to the route of the same path",
                        other.shown()
                    )
                }
            };
            self.draft.note(file, other.at, text);
        }
        let was = Requirement::by(&item.value.auth);
        let mut requirement = was.clone();
        let mut strictest: Option<(Who, Demand)> = None;
        let closed = candidate
            .closed
            .iter()
            .map(|(at, why)| ((who.0, Some(who.1)), Demand { asked: Requirement::Nobody, at: *at, why: why.clone() }));
        for (by, demand) in served.demands.iter().cloned().chain(self.unconverted(served)).chain(closed) {
            let both = requirement.and(&demand.asked);
            if both != requirement {
                (requirement, strictest) = (both, Some((by, demand)));
            }
        }
        if location.kind == Kind::Exact && requirement != Requirement::Nobody {
            let text = "`location =` matched one path, but a route also matches the paths below it";
            self.draft.note(file, location.at, text);
        }
        let was_closed = strictest.as_ref().is_some_and(|(_, demand)| {
            requirement == Requirement::Nobody && candidate.closed.as_ref().is_none_or(|(_, why)| *why != demand.why)
        });
        if let Some((by, demand)) = strictest {
            let text = self.reason(&was, &requirement, who, by, &demand);
            let at = if by.1.is_some() { demand.at } else { location.at };
            item.note(file, at, text);
            item.value.forward_token = candidate.token.unwrap_or(false);
            match &requirement {
                Requirement::Caller(provider) => item.value.auth = required(provider, &[]),
                _ => shut(&mut item.value, &self.provider(&candidate.item.value.auth, demand.at)),
            }
        }
        if let Some((at, why)) = candidate.closed.as_ref().filter(|_| was_closed) {
            item.note(file, *at, format!("before you open this route, note that {why}"));
        }
        if !self.header_rules(&mut item, served, who) {
            let text = "this route rejects all requests because other locations whose requests go to it overwrote too many fields: write `remove` in `request_headers`";
            item.note(file, location.at, text);
            item.value.forward_token = false;
            shut(&mut item.value, &self.provider(&candidate.item.value.auth, location.at));
        }
        self.push(item);
    }

    /// Applies the header rules of the other locations whose requests go to a route, which is that of the location
    /// `own`: what one of them overwrote does not come from clients. False when these are too many fields.
    fn header_rules(&self, item: &mut Item<Route>, served: &Served, own: (usize, usize)) -> bool {
        let file = self.converter.nginx.file;
        let changes = &item.value.request_headers;
        let set = changes.set.keys().filter_map(|name| name.parse().ok());
        let mut known: HashSet<HeaderName> = set.chain(changes.remove.iter().map(|name| name.0.clone())).collect();
        let most = known.len() + limits::IMPORT_REMOVED_FIELDS;
        let others: BTreeSet<(usize, usize)> =
            served.demands.iter().filter_map(|((site, index), _)| Some((*site, (*index)?))).collect();
        for who in others.into_iter().filter(|who| *who != own) {
            let Some((location, entry)) = self.table.location(who.0, who.1) else { continue };
            let (names, hides_token) = &entry.overwritten;
            let names: Vec<Header> = names.iter().filter(|name| known.insert(name.0.clone())).cloned().collect();
            if known.len() > most {
                return false;
            }
            item.value.request_headers.remove.extend(names.iter().cloned());
            if !names.is_empty() {
                let shown = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let removed = if names.len() == 1 { "the field is" } else { "the fields are" };
                let text = format!(
                    "{} overwrote {shown}, and its requests go to this route: {removed} removed from all requests",
                    location.shown()
                );
                item.note(file, location.at, text);
            }
            if *hides_token && std::mem::take(&mut item.value.forward_token) {
                let text = format!(
                    "{} did not send the client's Authorization, and its requests go to this route: `forward_token` is off for all requests",
                    location.shown()
                );
                item.note(file, location.at, text);
            }
        }
        true
    }

    /// The demands of prefix locations at a route's place that cannot become routes: their requests must be rejected.
    fn unconverted(&self, served: &Served) -> Vec<(Who, Demand)> {
        let of = |who: &(usize, usize)| {
            let (location, entry) = self.table.location(who.0, who.1)?;
            let why = entry.candidate.as_ref().err().filter(|_| location.kind == Kind::Prefix)?;
            let demand = Demand { asked: Requirement::Nobody, at: location.at, why: why.clone() };
            Some(((who.0, Some(who.1)), demand))
        };
        served.owners.iter().filter_map(of).collect()
    }

    /// The note that explains why a route has `requirement`, which is stricter than that of its location `own` (`was`).
    /// The reason is `demand` of the location `by`.
    fn reason(
        &self,
        was: &Requirement,
        requirement: &Requirement,
        own: (usize, usize),
        by: Who,
        demand: &Demand,
    ) -> String {
        let shown = by.1.and_then(|index| self.table.location(by.0, index)).map(|(location, _)| location.shown());
        let open = match was {
            Requirement::Nothing => "write `auth: {providers: [NAME]}`, or `auth: none` for everybody".to_owned(),
            _ => format!("remove the scope `{CLOSED}`"),
        };
        let why = &demand.why;
        match (requirement, &demand.asked, shown) {
            (Requirement::Caller(_), _, Some(shown)) => {
                format!("{shown} required authentication, and some of its requests go to this route: the route requires authentication")
            }
            (Requirement::Caller(_), ..) => {
                "nginx required authentication for paths without a location, and requests for them go to this route: the route requires authentication"
                    .to_owned()
            }
            (_, Requirement::Nobody, Some(_)) if by == (own.0, Some(own.1)) => {
                format!("this route rejects all requests because {why}. To open it, {open}")
            }
            (_, Requirement::Nobody, Some(shown)) => format!(
                "{shown} is closed because {why}, and some of its requests go to this route: the route rejects all requests. To open it, {open}"
            ),
            (_, Requirement::Nobody, None) => format!(
                "nginx may have rejected some requests for this route, such as those for the paths below it (server, line {}: {why}): the route rejects all requests. To open it, {open}",
                demand.at.0
            ),
            (.., shown) => format!(
                "{} required authentication by another provider, and some of its requests go to this route: the route rejects all requests. To open it, {open}",
                shown.unwrap_or_else(|| "the server".to_owned())
            ),
        }
    }

    /// Adds a closed route at `place`, where no location can become a route. It is needed where the route `around` the
    /// place, or the route of another host, would get the requests.
    fn closed(&mut self, place: &str, served: &Served, around: Option<Chosen<'t, 'a>>) {
        let file = self.converter.nginx.file;
        let falls_through = self.group.falls_through && place.is_empty();
        let owner = served.owners.first().and_then(|who| self.table.location(who.0, who.1));
        let path = owner
            .map_or_else(|| format!("{place}/"), |(location, _)| crate::import::nginx::place::encoded(&location.path));
        let (at, why) = match owner {
            Some((location, entry)) => {
                let root = "a route for it would match all paths";
                (location.at, entry.candidate.as_ref().err().map_or(root, String::as_str).to_owned())
            }
            None => {
                let is_restricted = |(_, demand): &&(Who, Demand)| demand.asked != Requirement::Nothing;
                let by = served.demands.iter().rev().find(is_restricted).or(served.demands.first());
                let shown = by.and_then(|((site, index), _)| self.table.location(*site, (*index)?));
                let text = shown.map_or("nginx had no location for this path".to_owned(), |(location, _)| {
                    format!("{} required more of callers", location.shown())
                });
                (by.map_or((1, 1), |(_, demand)| demand.at), text)
            }
        };
        let upstream = around.and_then(|around| around.candidate.item.value.upstream.as_ref());
        let upstream = upstream.or_else(|| self.draft.upstreams.keys().next().filter(|_| falls_through)).cloned();
        let Some(upstream) = upstream else {
            if let Some((location, _)) = owner {
                self.draft.note(file, at, format!("{} is left out because {why}", location.shown()));
            }
            return;
        };
        let to = match around {
            Some(around) => format!("to the route `{}`", excerpt(&around.candidate.item.value.path)),
            None => "to the routes of other hosts".to_owned(),
        };
        let mut item = Item::new(blank_route(&path, &upstream, RouteAuth::None));
        item.note(
            file,
            at,
            format!("this route rejects all requests because {why}. Without this route, its requests would go {to}"),
        );
        let auth = around.map_or(RouteAuth::None, |around| around.candidate.item.value.auth.clone());
        shut(&mut item.value, &self.provider(&auth, at));
        self.push(item);
    }

    /// The provider of a closed route: the provider of `auth`, or any other.
    fn provider(&mut self, auth: &RouteAuth, at: Position) -> String {
        match auth {
            RouteAuth::Required(required) if !required.providers.is_empty() => required.providers[0].clone(),
            _ => match self.draft.providers.keys().next() {
                Some(name) => name.clone(),
                None => {
                    let text = "a closed route needs a provider, and there is no other: write the URL of the authentication server";
                    self.converter.gates.unknown(at, text.to_owned(), self.draft)
                }
            },
        }
    }

    fn push(&mut self, mut item: Item<Route>) {
        item.value.hosts.clone_from(&self.group.hosts);
        // By default a route is named after its host and path. They may be too long for a name.
        let host = self.group.hosts.first().map_or(0, |host| host.to_string().len());
        if host + item.value.path.len() > limits::ROUTE_NAME_BYTES {
            item.value.name = Some(format!("imported-{}", self.draft.routes.len()));
        }
        self.draft.routes.push(item);
    }
}
