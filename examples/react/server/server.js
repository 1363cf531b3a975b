// One route that gives a tenant its own lines, and the built page.

import { fileURLToPath } from "node:url";
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "@prisma/client";
import express from "express";
import { lineOf, rowsOf } from "./lines.js";
import { tenantOf } from "./session.js";

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) });
const app = express();
app.disable("x-powered-by");
app.use((_request, response, next) => {
  response.set("Content-Security-Policy", "default-src 'self'; img-src data:; frame-ancestors 'none'");
  next();
});

app.get("/api/whatsapp-lines", async (request, response) => {
  response.set("Cache-Control", "private, no-store");
  const tenantId = tenantOf(request);
  if (tenantId === null) return response.status(401).json({ error: "not signed in" });
  const now = new Date();
  const rows = await rowsOf(prisma, tenantId);
  response.json({ lines: rows.map((row) => lineOf(row, now)) });
});

app.use(express.static(fileURLToPath(new URL("../dist", import.meta.url))));

// Express would send a stack trace to the browser.
app.use((error, _request, response, _next) => {
  console.error(error);
  response.status(500).json({ error: "internal error" });
});

const server = app.listen(Number(process.env.PORT || 3000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
