"""Reads what a loop has left, as a program on the other side would: with PyGithub.

    read.py API DISPATCH TARGET      the token is in READER_TOKEN; the answer is JSON

Nothing is known here but the two repositories and the rules of correlation, written anew: the hidden
metadata of a pull request, or `Fixes #N` in the repository of the issue.
"""

import json
import os
import re
import sys

from github import Auth, Github

METADATA = re.compile(r"<!--\s*agent_task_metadata\s+(.*?)\s*-->", re.DOTALL)
REFERENCE = re.compile(r"(?:fixes|closes|resolves)\s+#(\d+)", re.IGNORECASE)


def task_of(text):
    found = METADATA.search(text or "")
    return json.loads(found.group(1)).get("task_id") if found else None


def main(api, dispatch_name, target_name):
    github = Github(base_url=api, auth=Auth.Token(os.environ["READER_TOKEN"]), seconds_between_requests=None)
    dispatch, target = github.get_repo(dispatch_name), github.get_repo(target_name)

    issues, task_of_issue = [], {}
    for issue in dispatch.get_issues(state="all", labels=["copilot-agent"], sort="created", direction="asc"):
        task_of_issue[issue.number] = task_of(issue.body)
        issues.append(
            {
                "number": issue.number,
                "title": issue.title,
                "state": issue.state,
                "labels": [label.name for label in issue.labels],
                "task_id": task_of_issue[issue.number],
                "comments": [[comment.user.login, comment.body] for comment in issue.get_comments()],
            }
        )

    pulls, correlated = [], []
    for repository in (target, dispatch):
        for pull in repository.get_pulls(state="all", sort="created", direction="asc"):
            head = repository.get_branch(pull.head.ref)
            pulls.append(
                {
                    "repository": repository.full_name,
                    "number": pull.number,
                    "title": pull.title,
                    "base": pull.base.ref,
                    "branch": head.name,
                    "is_head": head.commit.sha == pull.head.sha,
                }
            )
            found = {"repository": repository.full_name, "number": pull.number}
            task = task_of(pull.body)
            if task in task_of_issue.values():
                correlated.append({**found, "task_id": task, "via": "pr_metadata"})
                continue
            for number in map(int, REFERENCE.findall(pull.body or "")):
                if repository.full_name == dispatch.full_name and number in task_of_issue:
                    task = task_of_issue[number]
                    correlated.append({**found, "task_id": task, "via": "issue_reference"})

    branch = pulls[0]["branch"]
    prefix = branch.removeprefix("agent-task-")
    trace = target.get_contents(f"agent-tasks/{prefix}.md", ref=branch)
    change = target.get_contents("read.txt", ref=branch)
    answer = {
        "issues": issues,
        "pulls": pulls,
        "correlated": correlated,
        "trace": trace.decoded_content.decode(),
        "change": change.decoded_content.decode(),
    }
    json.dump(answer, sys.stdout, ensure_ascii=True)


main(*sys.argv[1:])
