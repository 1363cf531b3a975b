// Stands in for the sessions of your application: replace it by what you have (express-session, Auth.js, …).
// DEMO_SESSIONS maps session ids to tenants: {"<session id>": "<tenant id>"}

const sessions = new Map(Object.entries(JSON.parse(process.env.DEMO_SESSIONS || "{}")));

/** Return the tenant of the session, or null. Nothing else of a request says who is asking. */
export function tenantOf(request) {
  const cookie = (request.headers.cookie ?? "").split(/; */).find((one) => one.startsWith("session="));
  return (cookie && sessions.get(cookie.slice("session=".length))) ?? null;
}
