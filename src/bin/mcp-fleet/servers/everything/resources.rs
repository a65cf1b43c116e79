//! The resources of the `everything` server.

use rmcp::model::{Resource, ResourceContents, ResourceTemplate};
use serde_json::json;

use super::samples;

const STATIC_TEXT: &str = "test://static-text";
const STATIC_BINARY: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";

/// The resources that have a URI of their own.
pub(crate) fn all() -> Vec<Resource> {
    let resource = |uri: &str, name: &str, kind: &str, description: &str| {
        Resource::new(uri, name).with_mime_type(kind).with_description(description)
    };
    vec![
        resource(STATIC_TEXT, "static-text", "text/plain", "A text."),
        resource(STATIC_BINARY, "static-binary", "image/png", "An image."),
        resource(WATCHED, "watched-resource", "text/plain", "A text to subscribe to."),
    ]
}

/// The only resource template.
pub(crate) fn template() -> ResourceTemplate {
    ResourceTemplate::new("test://template/{id}/data", "template-data")
        .with_mime_type("application/json")
        .with_description("Data for an id.")
}

/// The contents of the resource at `uri`.
pub(crate) fn read(uri: &str) -> Option<ResourceContents> {
    let text = |text: &str| ResourceContents::text(text, uri).with_mime_type("text/plain");
    match uri {
        STATIC_TEXT => Some(text("This is the content of the static text resource.")),
        STATIC_BINARY => Some(ResourceContents::blob(samples::PNG, uri).with_mime_type("image/png")),
        WATCHED => Some(text("This resource can be watched, and never changes.")),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            Some(ResourceContents::text(data.to_string(), uri).with_mime_type("application/json"))
        }
    }
}
