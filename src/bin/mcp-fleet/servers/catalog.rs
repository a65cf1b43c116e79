//! The tools of all servers.

use rmcp::model::Tool;

use super::everything::Everything;
use super::handler::Handler;
use crate::server::Server;

/// The tools of `server`, in the order of their names.
pub(crate) fn tools(server: Server) -> Vec<Tool> {
    match server {
        Server::Fininfo => Handler::fininfo().list_all(),
        Server::Mcpgw => Handler::mcpgw().list_all(),
        Server::Currenttime => Handler::currenttime().list_all(),
        Server::Everything => Everything::tools().list_all(),
    }
}
