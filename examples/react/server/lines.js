// What a customer may know about the WhatsApp lines of its own tenant.

const DAY = 24 * 60 * 60 * 1000;
const WINDOW_DAYS = Number(process.env.REFRESH_BEFORE_EXPIRY_DAYS || 15);
const RECONNECT_URL = process.env.RECONNECT_URL || "";

if (RECONNECT_URL && !/^https?:\/\//.test(RECONNECT_URL)) {
  throw new Error("RECONNECT_URL must begin with https:// or http://");
}

/**
 * Return the lines of one tenant as rows: { id, name, expiresAt, status, reason, isSame }.
 *
 * It is SQL because the database compares the fingerprint (`isSame`: the state describes the token that is
 * stored now) and cuts the detail off the error. So neither a ciphertext nor an internal detail comes here.
 */
export function rowsOf(prisma, tenantId) {
  return prisma.$queryRaw`
    SELECT id, display_name AS name, token_expires_at AS "expiresAt", token_status AS status,
           split_part(token_error, ':', 1) AS reason,
           token_fingerprint = md5(wa_token_encrypted) AS "isSame"
    FROM "Channel"
    WHERE tenant_id = ${tenantId} AND provider = 'whatsapp' AND is_active AND wa_token_encrypted <> ''
    ORDER BY display_name, id`;
}

/** Return the state of a line, by the same rules as the status page of the refresher. */
export function stateOf({ expiresAt, status, reason, isSame }, now) {
  if (isSame === false) return "unknown"; // reconnected since the last run
  const isPast = expiresAt !== null && expiresAt <= now;
  if (status === "warning" && reason === "reconnect_required") return isPast && isSame ? "waiting" : "down";
  if (status === "warning") return "warning";
  if (expiresAt === null) return status === "never_expires" ? "never_expires" : "unknown";
  if (isPast) return "ended";
  return expiresAt - now < WINDOW_DAYS * DAY ? "ending" : "ok";
}

/**
 * Return what the customer has to be told, or null if there is nothing that the customer can do about.
 *
 * A line that is `ending` renews itself. Keys, Meta's outages and the app's settings are the operator's, who
 * is alerted. But once a token has expired, only a new one helps, whoever was late.
 */
export function noticeOf(row, now) {
  const isPast = row.expiresAt !== null && row.expiresAt <= now;
  switch (stateOf(row, now)) {
    case "down":
    case "waiting":
      return "stopped";
    case "ended":
      return "expired";
    case "warning":
      if (row.reason === "undecryptable") return null;
      if (isPast) return "expired";
      return { missing_permission: "permission", not_extended: "expires" }[row.reason] ?? null;
    default:
      return null;
  }
}

/** Return what goes to the browser. A date and a link are there only where a notice needs them. */
export function lineOf(row, now) {
  const notice = noticeOf(row, now);
  return {
    id: row.id,
    name: row.name || row.id,
    notice,
    expiresAt: notice === "expires" || notice === "expired" ? row.expiresAt : null,
    reconnectUrl: (notice && RECONNECT_URL.replaceAll("{channel_id}", encodeURIComponent(row.id))) || null,
  };
}
