export const TEXTS = {
  es: {
    title: "Líneas de WhatsApp",
    connect: "Conectar WhatsApp",
    stopped: () => "Esta línea ha dejado de funcionar. Vuelve a conectarla.",
    expired: (date) => `La conexión de esta línea caducó el ${date}. Vuelve a conectarla.`,
    expires: (date) => `La conexión de esta línea caduca el ${date}. Vuelve a conectarla antes.`,
    permission: () => "A esta línea le falta un permiso. Vuelve a conectarla y acepta todos los permisos.",
    none: "Todavía no hay ninguna línea conectada.",
    failed: "No se han podido cargar las líneas. Inténtalo de nuevo más tarde.",
    loading: "Cargando…",
  },
  en: {
    title: "WhatsApp lines",
    connect: "Connect WhatsApp",
    stopped: () => "This line has stopped working. Connect it again.",
    expired: (date) => `The connection of this line expired on ${date}. Connect it again.`,
    expires: (date) => `The connection of this line expires on ${date}. Connect it again before then.`,
    permission: () => "This line lacks a permission. Connect it again and accept every permission.",
    none: "No line is connected yet.",
    failed: "The lines could not be loaded. Try again later.",
    loading: "Loading…",
  },
};
