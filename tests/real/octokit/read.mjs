// Reads what a loop has left, as a program on the other side would: with GitHub's own client.
//
//   node read.mjs MODULE API DISPATCH TARGET      the token is in READER_TOKEN; the answer is JSON
//
// The rules of correlation are written anew here, as in ../pygithub/read.py.
const [module, api, dispatchName, targetName] = process.argv.slice(2);
const { Octokit } = await import(module);
const octokit = new Octokit({ baseUrl: api, auth: process.env.READER_TOKEN });

const taskOf = (text) => {
  const found = /<!--\s*agent_task_metadata\s+([\s\S]*?)\s*-->/.exec(text ?? '');
  return found ? JSON.parse(found[1]).task_id : undefined;
};
const named = (fullName) => {
  const [owner, repo] = fullName.split('/');
  return { owner, repo };
};
const dispatch = (await octokit.rest.repos.get(named(dispatchName))).data;
const target = (await octokit.rest.repos.get(named(targetName))).data;

const issues = [];
const listed = await octokit.paginate(octokit.rest.issues.listForRepo, {
  ...named(dispatch.full_name),
  state: 'all',
  labels: 'copilot-agent',
  sort: 'created',
  direction: 'asc',
});
for (const issue of listed) {
  const place = { ...named(dispatch.full_name), issue_number: issue.number };
  const comments = await octokit.paginate(octokit.rest.issues.listComments, place);
  issues.push({
    number: issue.number,
    title: issue.title,
    state: issue.state,
    labels: issue.labels.map((label) => label.name),
    task_id: taskOf(issue.body),
    comments: comments.map((comment) => [comment.user.login, comment.body]),
  });
}

const pulls = [];
const correlated = [];
for (const repository of [target, dispatch]) {
  const place = named(repository.full_name);
  const all = { ...place, state: 'all', sort: 'created', direction: 'asc' };
  for (const pull of await octokit.paginate(octokit.rest.pulls.list, all)) {
    const head = (await octokit.rest.repos.getBranch({ ...place, branch: pull.head.ref })).data;
    pulls.push({
      repository: repository.full_name,
      number: pull.number,
      title: pull.title,
      base: pull.base.ref,
      branch: head.name,
      is_head: head.commit.sha === pull.head.sha,
    });
    const found = { repository: repository.full_name, number: pull.number };
    const task = taskOf(pull.body);
    if (task !== undefined && issues.some((issue) => issue.task_id === task)) {
      correlated.push({ ...found, task_id: task, via: 'pr_metadata' });
      continue;
    }
    for (const [, number] of (pull.body ?? '').matchAll(/(?:fixes|closes|resolves)\s+#(\d+)/gi)) {
      const issue = issues.find((known) => known.number === Number(number));
      if (repository.full_name === dispatch.full_name && issue) {
        correlated.push({ ...found, task_id: issue.task_id, via: 'issue_reference' });
      }
    }
  }
}

const text = async (path, ref) => {
  const file = (await octokit.rest.repos.getContent({ ...named(target.full_name), path, ref })).data;
  return Buffer.from(file.content, file.encoding).toString('utf8');
};
const { branch } = pulls[0];
const trace = await text(`agent-tasks/${branch.replace(/^agent-task-/, '')}.md`, branch);
const change = await text('read.txt', branch);
process.stdout.write(JSON.stringify({ issues, pulls, correlated, trace, change }));
