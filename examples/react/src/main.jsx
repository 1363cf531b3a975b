import { createRoot } from "react-dom/client";
import { WhatsAppLinesSection } from "./WhatsAppLinesSection.jsx";
import "./styles.css";

// Your application knows the language of its user; here the address may say it: ?lang=en
const language = new URLSearchParams(location.search).get("lang") === "en" ? "en" : "es";
document.documentElement.lang = language;

// If your application starts Embedded Signup in JavaScript, pass the function that does it as `onConnect`.
const onConnect = window.connectWhatsApp;

createRoot(document.getElementById("root")).render(<WhatsAppLinesSection {...{ language, onConnect }} />);
