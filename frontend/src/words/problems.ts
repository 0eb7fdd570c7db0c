/** The API's problems by their slug, where its own words, which are English, are not the page's. */
export interface ProblemWords {
  title: string;
  /** Left out where only the API's own words say what it is about. */
  text?: string;
  remedy: string;
}

type Problems = Partial<Record<string, ProblemWords>>;

export const en: Problems = {};

const spaeter = "Warte einen Augenblick, dann noch einmal.";
const betreiber = "Bleibt es so, sag es dem Betreiber.";

export const de: Problems = {
  "address-refused": {
    title: "Von dieser Adresse holt Sibyl nichts",
    text: "Geholt wird nur aus dem öffentlichen Web, über http oder https.",
    remedy: "Lade das Bild selbst herunter und wähle die Datei.",
  },
  "address-unreachable": {
    title: "Unter dieser Adresse kam kein Bild",
    remedy: "Prüfe die Adresse, oder lade das Bild selbst herunter und wähle die Datei.",
  },
  "image-rejected": {
    title: "Das Bild wird nicht angenommen",
    remedy: "Nimm ein ganzes PNG, JPEG, WebP oder GIF mit einem einzigen Bild.",
  },
  "body-too-large": {
    title: "Die Datei ist zu groß",
    text: "Es sind mehr Bytes, als die API annimmt.",
    remedy: "Nimm eine kleinere Datei.",
  },
  "body-too-slow": {
    title: "Das Hochladen dauerte zu lange",
    text: "Die Datei kam nicht rechtzeitig an.",
    remedy: "Nimm eine kleinere Datei oder eine bessere Verbindung.",
  },
  "too-large": {
    title: "Der Inhalt ist zu groß",
    text: "Es sind mehr Bytes, als hier angenommen werden.",
    remedy: "Nimm eine kleinere Datei.",
  },
  "not-a-file": {
    title: "Diese CID nennt keine Datei",
    text: "Sie nennt ein Verzeichnis oder etwas anderes.",
    remedy: "Nimm die CID der Datei selbst.",
  },
  "bad-cid": {
    title: "Das ist keine CID",
    text: "Von dieser Form wird keine gelesen.",
    remedy: "Kopiere sie ganz.",
  },
  "content-unavailable": {
    title: "Der Inhalt kam nicht rechtzeitig",
    text: "Kein Knoten hat ihn geliefert.",
    remedy: "Noch einmal versuchen; bleibt es so, hat ihn vielleicht niemand mehr.",
  },
  "content-corrupt": {
    title: "Es kamen andere Bytes, als die CID nennt",
    text: "Der Inhaltsspeicher der API hat etwas anderes geliefert; nichts davon wird verwendet.",
    remedy: `Noch einmal versuchen. ${betreiber}`,
  },
  "manifest-invalid": {
    title: "Das Manifest verletzt eine Regel",
    remedy: "Berichtige das genannte Feld, dann noch einmal prüfen.",
  },
  "not-weights": {
    title: "Das ist keine Datei mit Gewichten",
    text: "Sie beginnt wie keine der Dateien, die Gewichte halten.",
    remedy: "Nimm .npz, .keras, .tflite oder .safetensors.",
  },
  "too-many-requests": {
    title: "Zu viele Anfragen an die API",
    text: "Von diesem Rechner kommen gerade mehr, als die API je Sekunde beantwortet.",
    remedy: spaeter,
  },
  "too-many-uploads": {
    title: "Zu viel wird zugleich hochgeladen",
    text: "Von diesem Rechner sind schon Dateien unterwegs.",
    remedy: "Warte, bis eine davon fertig ist.",
  },
  "too-much-uploaded": {
    title: "Zu viel wurde hochgeladen",
    text: "Von diesem Rechner kam in kurzer Zeit mehr, als die API annimmt.",
    remedy: spaeter,
  },
  "day-of-uploads-used-up": {
    title: "Für heute wurde genug hochgeladen",
    text: "Was die API an einem Tag von einem Rechner annimmt, ist verbraucht.",
    remedy: "Nenne das Bild mit seiner CID, oder versuche es morgen.",
  },
  "uploads-full": {
    title: "Gerade ist kein Platz zum Hochladen",
    text: "Die API nimmt keine Dateien mehr an, bis wieder Platz ist.",
    remedy: `Nenne das Bild mit seiner CID, oder versuche es später. ${betreiber}`,
  },
  "too-many-connections": {
    title: "Zu viele Verbindungen zur API",
    text: "Von diesem Rechner, oder von allen zusammen, sind so viele offen, wie sie zulässt.",
    remedy: spaeter,
  },
  busy: {
    title: "Gerade nicht möglich",
    text: "Die API ist beschäftigt.",
    remedy: `${spaeter} ${betreiber}`,
  },
  "wish-taken": {
    title: "Ein anderer Anbieter ist schon gewünscht",
    text: "Für dieses Bild und dieses Konto wurde später ein anderer Anbieter gewählt.",
    remedy: "Unterschreibe die Wahl noch einmal, oder nimm „Bester“.",
  },
  "wish-not-signed": {
    title: "Den Anbieter wählt nur, wer fragt",
    text: "Die Unterschrift ist nicht von diesem Konto, oder sie ist zu alt.",
    remedy: "Unterschreibe noch einmal; prüfe die Uhr dieses Rechners.",
  },
  "too-many-wishes": {
    title: "Zu oft wurde ein Anbieter gewünscht",
    text: "Was die API in einer Stunde von einem Rechner annimmt, ist verbraucht.",
    remedy: "Nimm „Bester“, oder versuche es später.",
  },
  "unknown-provider": {
    title: "Diesen Anbieter kennt das Orakel nicht",
    text: "Es hat keinen dieses Namens gesehen.",
    remedy: "Nimm „Bester“ oder einen anderen aus der Liste.",
  },
  "unknown-model": {
    title: "Dieses Modell gibt es nicht",
    text: "Im Vertrag steht kein Modell dieser Nummer.",
    remedy: "Wähle eines aus der Liste.",
  },
  "unknown-request": {
    title: "Diese Anfrage kennt die API nicht",
    text: "Vielleicht steht sie noch in keinem Block, den das Orakel gelesen hat.",
    remedy: spaeter,
  },
  "no-example": {
    title: "Kein Beispielbild",
    text: "Für dieses Modell gibt es keines.",
    remedy: "Nimm ein eigenes Bild.",
  },
  "key-needed": {
    title: "Dafür braucht es einen API-Schlüssel",
    text: "Ohne Schlüssel zahlt hier niemand für dich.",
    remedy: "Zahle mit deiner Wallet.",
  },
  "balance-too-low": {
    title: "Die API kann gerade nicht zahlen",
    text: "Ihr Guthaben reicht nicht.",
    remedy: "Zahle mit deiner Wallet, oder sag es dem Betreiber.",
  },
  "day-limit-reached": {
    title: "Die Grenze des Tages ist erreicht",
    text: "Für heute zahlt die API nichts mehr.",
    remedy: "Zahle mit deiner Wallet, oder versuche es morgen.",
  },
  "database-not-ready": {
    title: "Die Datenbank des Orakels ist nicht bereit",
    text: "Sie fehlt, entsteht gerade oder ist nicht zu lesen.",
    remedy: `${spaeter} ${betreiber}`,
  },
  "chain-unreachable": {
    title: "Die API kann die Chain gerade nicht lesen",
    text: "Ihr RPC-Endpunkt antwortet nicht.",
    remedy: `${spaeter} ${betreiber}`,
  },
  "wrong-chain": {
    title: "Die API liest eine andere Chain",
    text: "Ihr RPC-Endpunkt gehört zu einer anderen Chain als der eingestellten.",
    remedy: "Sag es dem Betreiber.",
  },
  "not-configured": {
    title: "Das ist hier nicht eingerichtet",
    text: "Diese API ist dafür nicht eingestellt.",
    remedy: "Sag es dem Betreiber.",
  },
  unexpected: {
    title: "Bei der API ist etwas schiefgegangen",
    text: "Damit hat niemand gerechnet.",
    remedy: `Noch einmal versuchen. ${betreiber}`,
  },
};
