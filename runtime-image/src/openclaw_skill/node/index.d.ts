/** An expected failure: its message is shown to the user as it is. */
export class SkillError extends Error {}

/** The agent refused or could not do what the skill asked of its context. `code` is the JSON-RPC code. */
export class ContextError extends Error {
  constructor(message: string, code?: number);
  readonly code: number;
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface Logger {
  debug(message: string, fields?: Record<string, Json>): void;
  info(message: string, fields?: Record<string, Json>): void;
  warn(message: string, fields?: Record<string, Json>): void;
  error(message: string, fields?: Record<string, Json>): void;
}

/** What an action is given: `export async function name(ctx: Context, input)`. */
export interface Context {
  readonly logger: Logger;
  /** The agent's memory. Records are JSON objects whose `type` is their kind; `add` returns the record's id. */
  readonly memory: {
    add(record: Record<string, Json>): Promise<string>;
    search(query: string, limit?: number): Promise<Record<string, Json>[]>;
  };
  /** The agent's model. */
  readonly llm: {
    generate(
      prompt: string,
      options?: { system?: string; temperature?: number; maxTokens?: number },
    ): Promise<string>;
  };
  /** Asks the user and returns the answer. */
  ask(question: string): Promise<string>;
  /**
   * Gives a file with the result: `data`, or what is at `path`. `name` is a file's name without a path; `mediaType` goes
   * by it where it is left out. At most 16 for a call, 8 MiB each, 16 MiB in all.
   */
  attach(
    name: string,
    content: { data: Uint8Array; mediaType?: string } | { path: string; mediaType?: string },
  ): Promise<void>;
  /** Reports how far the work is, 0.0 to 1.0. */
  progress(fraction: number, message?: string): Promise<void>;
  /** The mounted workspace; null without a filesystem permission. */
  readonly workspace: string | null;
  readonly scratch: string;
  readonly config: Readonly<Record<string, Json>>;
  readonly secrets: Readonly<Record<string, string>>;
  readonly allowedDomains: readonly string[];
  readonly call: Readonly<{ id: string; agent: string; session: string; skill: string; action: string }>;
  /** Aborted when the call is ended from outside; half a second is left to clean up. */
  readonly signal: AbortSignal;
}
