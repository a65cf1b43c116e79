//! Tools that answer at once, with each kind of content.

use std::sync::Arc;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject, ResourceContents};
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Everything, samples};

#[derive(Deserialize, JsonSchema)]
struct Tenant {
    /// The region, which a client also sends in the header Mcp-Param-Region.
    #[schemars(extend("x-mcp-header" = "Region"))]
    region: String,
}

#[tool_router(router = content, vis = "pub(crate)")]
impl Everything {
    /// Answers with a text.
    #[tool]
    fn test_simple_text(&self) -> ContentBlock {
        ContentBlock::text("This is a simple text response for testing.")
    }

    /// Answers with an image.
    #[tool]
    fn test_image_content(&self) -> ContentBlock {
        image()
    }

    /// Answers with a sound.
    #[tool]
    fn test_audio_content(&self) -> ContentBlock {
        ContentBlock::audio(samples::WAV, "audio/wav")
    }

    /// Answers with a resource.
    #[tool]
    fn test_embedded_resource(&self) -> ContentBlock {
        let text = "This is an embedded resource content.";
        ContentBlock::resource(ResourceContents::text(text, "test://embedded-resource").with_mime_type("text/plain"))
    }

    /// Answers with a text, an image and a resource.
    #[tool]
    fn test_multiple_content_types(&self) -> CallToolResult {
        let data = json!({ "test": "data", "value": 123 }).to_string();
        let data = ResourceContents::text(data, "test://mixed-content-resource").with_mime_type("application/json");
        CallToolResult::success(vec![
            ContentBlock::text("Multiple content types test:"),
            image(),
            ContentBlock::resource(data),
        ])
    }

    /// Always fails.
    #[tool]
    fn test_error_handling(&self) -> Result<String, String> {
        Err("This tool intentionally returns an error for testing".to_owned())
    }

    /// Has an argument that revision 2026-07-28 also sends as a header.
    #[tool]
    fn test_custom_header(&self, Parameters(Tenant { region }): Parameters<Tenant>) -> String {
        format!("The region is {region}.")
    }

    /// Has a schema with keywords of JSON Schema 2020-12.
    #[tool(input_schema = wide_schema())]
    fn json_schema_2020_12_tool(&self) -> String {
        "The arguments are not looked at.".to_owned()
    }
}

fn image() -> ContentBlock {
    ContentBlock::image(samples::PNG, "image/png")
}

fn wide_schema() -> Arc<JsonObject> {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    });
    Arc::new(rmcp::model::object(schema))
}
