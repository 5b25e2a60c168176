//! Exits are servers too: what is rerouted through one goes there first, so it must not stand where the policy blocks.

use super::compiled::{Observe, Policy, Rule};
use super::condition::Key;
use super::evaluate::Seen;
use super::exits::{ExitKind, Server};
use super::facts::{Evidence, Facts, Name, Opening, Source};
use super::truth::Truth;
use super::verdict::Origin;
use crate::document::Problem;
use crate::jurisdiction::Data;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

impl Policy {
    /// The block rule under which a server falls that traffic is to be rerouted through, by its address and, if that is
    /// known, its name. Only what a rule says of the destination counts, whoever it is for and whatever it carries.
    ///
    /// The loader asks this of every address in `[exits]`; whoever opens an exit asks it of what a name or a profile
    /// turned out to be, and of the address that the exit is seen to leave from.
    pub fn forbids_exit_at(
        &self,
        address: IpAddr,
        name: Option<&str>,
        data: &Data,
    ) -> Option<Origin> {
        // The address was found by this very name.
        let evidence = [Evidence::Dns { age: 0 }, Evidence::Sni];
        let names: Vec<Name<'_>> = name
            .into_iter()
            .flat_map(|name| evidence.map(|evidence| Name { name, evidence }))
            .collect();
        let facts = Facts {
            source: Source {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                mac: None,
                peer: None,
            },
            protocol: 6,
            destination: SocketAddr::new(address, 0),
            address: data.lookup(address),
            names: &names,
            opening: Opening::default(),
            data,
            wall: None,
        };
        let seen = Seen::new(&facts, self);
        let deciding = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.observe == Observe::Never)
            .find(|(_, rule)| self.is_about(rule, &seen))?;
        let (index, rule) = deciding;
        rule.effect
            .stops()
            .then(|| Origin::Rule(u16::try_from(index).unwrap_or(u16::MAX)))
    }

    /// The block rule under which a server falls, as far as the policy itself tells where it is.
    fn forbids_server(&self, server: &Server, data: &Data) -> Option<Origin> {
        match server {
            Server::Address(address) => self.forbids_exit_at(address.ip(), None, data),
            // What address it has is seen when it is opened; its name may tell enough.
            Server::Name(name, _) => {
                self.forbids_exit_at(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(name), data)
            }
        }
    }

    /// Whether what a rule says of destinations holds. A rule that lets go must say nothing else to count.
    fn is_about(&self, rule: &Rule, seen: &Seen<'_>) -> bool {
        let stops = rule.effect.stops();
        let (mut said, mut holds) = (false, Truth::Yes);
        for (condition, written) in self.conditions_of(rule) {
            if written.key.is_of_target() || written.key == Key::To {
                said = true;
                holds = holds.and(seen.condition(condition, stops, rule.evidence));
            } else if !stops {
                return false;
            }
        }
        said && holds == Truth::Yes
    }

    /// Exits whose servers the policy itself blocks.
    pub(super) fn refused_exits(&self, data: &Data) -> Vec<Problem> {
        let mut refused = Vec::new();
        for exit in &self.exits {
            let server = match &exit.kind {
                ExitKind::Socks5 { server, .. } | ExitKind::HttpConnect { server, .. } => {
                    Some(server)
                }
                ExitKind::Direct
                | ExitKind::Wireguard { .. }
                | ExitKind::Failover(_)
                | ExitKind::Fastest(_) => None,
            };
            let asked = exit.egress.as_ref().map(|egress| &egress.server);
            let both = [
                (server, "exit"),
                (asked, "who is asked for the egress of exit"),
            ];
            for (server, what) in both {
                let Some(server) = server else { continue };
                if let Some(origin) = self.forbids_server(server, data) {
                    refused.push(Problem {
                        place: exit.place.clone(),
                        message: format!(
                            "{what} `{}` at {server} falls under block rule `{}` itself",
                            exit.name,
                            self.rule_id(origin)
                        ),
                    });
                }
            }
        }
        refused
    }
}
