// What whoever runs the node sees.
export default function NodeViews({ at }: { at: string }) {
  return <p>{at}</p>;
}
