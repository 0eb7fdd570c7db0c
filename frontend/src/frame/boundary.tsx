import { Component, type ReactNode } from "react";

import { Button } from "../parts/button";
import { ErrorNote } from "../parts/error-note";
import { useWords } from "../words";

/** Keeps a fault in one page from taking the frame with it. */
export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    return this.state.error ? <Stopped error={this.state.error} /> : this.props.children;
  }
}

function Stopped({ error }: { error: Error }) {
  const words = useWords().common;
  return (
    <ErrorNote
      title={words.crashed.title}
      text={words.crashed.text}
      details={error.message}
      action={<Button onClick={() => location.reload()}>{words.reload}</Button>}
    />
  );
}
