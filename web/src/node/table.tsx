// A table that a narrow screen shows as a list of cards.
import type { ReactNode } from 'react';

export interface Column<T> {
  title: string;
  cell: (row: T) => ReactNode;
  /** Numbers stand at the right. */
  number?: boolean;
  /** What heads the card on a narrow screen. */
  main?: boolean;
  /** What can be done with a row: its title is for screen readers alone. */
  actions?: boolean;
}

export function Table<T>({ caption, columns, rows, keyOf }: { caption: string; columns: readonly Column<T>[]; rows: readonly T[]; keyOf: (row: T) => string }) {
  return (
    <table>
      <caption className="hidden">{caption}</caption>
      <thead>
        <tr>{columns.map(column => <th key={column.title} scope="col" className={column.number ? 'right' : ''}>{column.actions ? <span className="hidden">{column.title}</span> : column.title}</th>)}</tr>
      </thead>
      <tbody>
        {rows.map(row => (
          <tr key={keyOf(row)}>
            {columns.map(column => (
              <td key={column.title} data-title={column.title} className={`${column.number ? 'right numbers' : ''} ${column.main ? 'main-cell' : ''} ${column.actions ? 'action-cell' : ''}`}>
                <span className="cell">{column.cell(row)}</span>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
