import { useEffect, useState } from "react";
import { TEXTS } from "./texts.js";

/**
 * The customer's own WhatsApp lines, with an alert where the customer has to connect one again.
 *
 * `onConnect(line)`, if given, starts Embedded Signup on this page; without it the button leads to the line's
 * `reconnectUrl`. A line that has neither shows the alert only.
 */
export function WhatsAppLinesSection({ language = "es", onConnect }) {
  const texts = TEXTS[language] ?? TEXTS.en;
  const [lines, setLines] = useState(null);
  const [hasFailed, setHasFailed] = useState(false);

  useEffect(() => {
    const abort = new AbortController();
    fetch("/api/whatsapp-lines", { signal: abort.signal })
      .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`HTTP ${response.status}`))))
      .then((answer) => setLines(answer.lines))
      .catch(() => abort.signal.aborted || setHasFailed(true));
    return () => abort.abort();
  }, []);

  return (
    <section aria-labelledby="whatsapp-lines" aria-busy={!lines && !hasFailed}>
      <h1 id="whatsapp-lines">{texts.title}</h1>
      {hasFailed && <p role="alert">{texts.failed}</p>}
      {!lines && !hasFailed && <p>{texts.loading}</p>}
      {lines?.length === 0 && <p>{texts.none}</p>}
      {lines?.length > 0 && (
        <ul>
          {lines.map((line) => (
            <li key={line.id}>
              <h2>{line.name}</h2>
              {line.notice && <Notice {...{ line, texts, language, onConnect }} />}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Notice({ line, texts, language, onConnect }) {
  const date = line.expiresAt && new Date(line.expiresAt).toLocaleDateString(language, { dateStyle: "long" });
  const button = { className: "connect", "aria-label": `${texts.connect}: ${line.name}`, children: texts.connect };
  return (
    <div className="notice">
      <p role="alert">{texts[line.notice](date)}</p>
      {onConnect ? (
        <button type="button" onClick={() => onConnect(line)} {...button} />
      ) : (
        line.reconnectUrl && <a href={line.reconnectUrl} {...button} />
      )}
    </div>
  );
}
