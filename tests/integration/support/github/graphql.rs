//! As much of GitHub's GraphQL as assigns an issue to GitHub's own coding agent, as "Using Copilot
//! cloud agent via the API" in GitHub's documentation describes it.

use agent_runner::github::Permission;
use serde_json::{Value, json};

use super::shapes::node;
use super::state::State;

/// The agent's account; users see it as `copilot-swe-agent`.
pub const AGENT: &str = "copilot-swe-agent[bot]";
const AGENT_ID: &str = "BOT_kgDOC9w8XQ";
/// Without it the field is none that GitHub knows.
const FEATURE: &str = "issues_copilot_assignment_api_support";

/// The answer to a query, whose status is 200 also when it is a refusal.
pub fn answer(state: &mut State, login: &str, features: &str, body: &Value) -> Value {
    let query = body["query"].as_str().unwrap_or_default();
    let given = &body["variables"];
    let answered = if query.contains("suggestedActors(capabilities: [CAN_BE_ASSIGNED]") {
        suggested(state, login, given)
    } else if !query.contains("replaceActorsForAssignable(input:") {
        Err(("undefinedField", "Field doesn't exist on type".to_owned()))
    } else if !features.split(',').any(|feature| feature == FEATURE) {
        let what = "InputObject 'ReplaceActorsForAssignableInput' doesn't accept argument 'agentAssignment'";
        Err(("argumentNotAccepted", what.to_owned()))
    } else {
        assign(state, login, given)
    };
    match answered {
        Ok(data) => json!({ "data": data }),
        Err((kind, message)) => json!({
            "data": null,
            "errors": [{"type": kind, "path": [], "locations": [], "message": message}],
        }),
    }
}

type Refusal = (&'static str, String);

fn suggested(state: &State, login: &str, given: &Value) -> Result<Value, Refusal> {
    let text = |name: &str| given[name].as_str().unwrap_or_default();
    let name = format!("{}/{}", text("owner"), text("name"));
    let index = state.index(&name).ok_or_else(|| {
        let what = format!("Could not resolve to a Repository with the name '{name}'.");
        ("NOT_FOUND", what)
    })?;
    let repository = &state.repositories[index];
    let owner = json!({"login": repository.owner, "__typename": "User"});
    let agent = json!({"login": "copilot-swe-agent", "__typename": "Bot", "id": AGENT_ID});
    // It is for users: the token of an installation does not see it.
    let is_offered = repository.has_agent && !login.ends_with("[bot]");
    let nodes: Vec<Value> = is_offered
        .then_some(agent)
        .into_iter()
        .chain([owner])
        .collect();
    Ok(json!({
        "repository": {"id": node("R", repository.id), "suggestedActors": {"nodes": nodes}},
    }))
}

fn assign(state: &mut State, login: &str, given: &Value) -> Result<Value, Refusal> {
    let unknown = |id: &Value| {
        let what = format!("Could not resolve to a node with the global id of '{id}'");
        ("NOT_FOUND", what)
    };
    let (issue, agent) = (&given["issue"], &given["agent"]);
    let found = state
        .repositories
        .iter()
        .enumerate()
        .find_map(|(index, known)| {
            let is_it = |id: u64| *issue == node("I", id);
            let issue = known.issues.iter().find(|issue| is_it(issue.id))?;
            Some((index, issue.number))
        });
    let (index, number) = found.ok_or_else(|| unknown(issue))?;
    let repository = &state.repositories[index];
    if *agent != AGENT_ID || given["repository"] != node("R", repository.id) {
        return Err(unknown(agent));
    }
    if state.permission(repository, Some(login)) < Permission::Write {
        let what = format!(
            "{login} does not have the correct permissions to execute `ReplaceActorsForAssignable`"
        );
        return Err(("FORBIDDEN", what));
    }
    let issue = state.repositories[index]
        .issue(number)
        .expect("found above");
    issue.assignees = vec![AGENT.to_owned()];
    Ok(json!({"replaceActorsForAssignable": {"assignable": {
        "assignees": {"nodes": [{"login": "copilot-swe-agent"}]},
    }}}))
}
