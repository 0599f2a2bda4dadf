/** An expected failure: its message is shown to the user as it is. */
export class SkillError extends Error {
  name = "SkillError";
}

/** The agent refused or could not do what the skill asked of its context. `code` is the JSON-RPC code. */
export class ContextError extends Error {
  name = "ContextError";

  constructor(message, code = -32603) {
    super(message);
    this.code = code;
  }
}
