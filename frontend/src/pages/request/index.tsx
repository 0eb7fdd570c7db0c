export default function RequestPage({ id }: { id: string }) {
  return <h1 className="mono">{id}</h1>;
}
