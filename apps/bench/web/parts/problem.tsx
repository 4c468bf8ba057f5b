/** Something went wrong: said in words, read out at once. */
export function Problem({ message }: { message: string }) {
  return (
    <div role="alert" class="problem">
      <strong>Problem.</strong> <span>{message}</span>
    </div>
  );
}
