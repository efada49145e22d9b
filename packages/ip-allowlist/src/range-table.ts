/** Ranges of addresses in typed arrays: how they are kept, sorted and searched. */

/** Rows of 32-bit words, a column a word, most significant first: halving then stays in the first column, and in the cache. */
export type Columns = readonly Uint32Array[]

/** Ranges, a row each. */
export interface RangeTable {
  readonly count: number
  readonly firsts: Columns
  readonly lasts: Columns
  /** Until before when a row counts, in milliseconds since the epoch; `undefined` where every row counts for ever. */
  readonly expiries: Float64Array | undefined
}

/** Ranges of which `firsts` ascends and no two overlap, with every 64th `first` once more: small enough for a processor's cache. */
export interface SortedTable extends RangeTable {
  readonly landmarks: Columns
}

const rowsPerLandmark = 64
/** A part of a long piece of work: some hundred microseconds of it, as a rule. */
export const slice = 1_024

export function columnsOf (width: number, rows: number): Columns {
  return Array.from({ length: width }, () => new Uint32Array(rows))
}

/** Does a long piece of work in slices; between them, whoever drives the generator may let others run. */
export function * inSlices (count: number, work: (from: number, to: number) => void): Generator<undefined, void> {
  for (let from = 0; from < count; from += slice) {
    work(from, Math.min(from + slice, count))
    yield
  }
}

export function writeRow (columns: Columns, row: number, words: readonly number[]): void {
  for (let word = 0; word < columns.length; word++) columns[word]![row] = words[word]!
}

export function copyRow (columns: Columns, row: number, from: Columns, fromRow: number): void {
  for (let word = 0; word < columns.length; word++) columns[word]![row] = from[word]![fromRow]!
}

export function compareRows (columns: Columns, row: number, others: Columns, other: number): number {
  for (let word = 0; word < columns.length; word++) {
    const difference = columns[word]![row]! - others[word]![other]!
    if (difference !== 0) return difference
  }
  return 0
}

/** The next address, or the one before; beyond the ends of the family it starts again at the other end. */
export function stepRow (columns: Columns, row: number, step: 1 | -1): void {
  const carriesAt = step === 1 ? 0xffffffff : 0
  for (let word = columns.length - 1; word >= 0; word--) {
    const before = columns[word]![row]!
    columns[word]![row] = before + step
    if (before !== carriesAt) return
  }
}

export function withLandmarks (table: RangeTable): SortedTable {
  const landmarks = columnsOf(table.firsts.length, Math.ceil(table.count / rowsPerLandmark))
  for (let row = 0; row < table.count; row += rowsPerLandmark) copyRow(landmarks, row / rowsPerLandmark, table.firsts, row)
  return { ...table, landmarks }
}

/** Whether a table holds the address in row 0 of `key`, and holds it still. */
export function covers ({ count, firsts, lasts, expiries, landmarks }: SortedTable, key: Columns, clock: () => number): boolean {
  const landmark = lastUpTo(key, landmarks, { from: 0, to: landmarks[0]!.length })
  if (landmark < 0) return false
  const from = landmark * rowsPerLandmark
  const row = lastUpTo(key, firsts, { from, to: Math.min(from + rowsPerLandmark, count) })
  if (compareRows(lasts, row, key, 0) < 0) return false
  return expiries === undefined || expiries[row] === Infinity || clock() < expiries[row]!
}

/** The last of ascending rows that is not above the key; the one before `from` if all are. */
function lastUpTo (key: Columns, rows: Columns, { from, to }: { readonly from: number, readonly to: number }): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    if (compareRows(rows, middle, key, 0) <= 0) low = middle + 1
    else high = middle
  }
  return low - 1
}

/** The rows in ascending order: a radix sort, byte by byte from the least significant, because it can pause anywhere. */
export function * orderOf (columns: Columns, count: number): Generator<undefined, Uint32Array> {
  let order = new Uint32Array(count)
  let spare = new Uint32Array(count)
  const starts = new Uint32Array(257)
  yield * inSlices(count, (from, to) => {
    for (let index = from; index < to; index++) order[index] = index
  })
  for (const column of columns.toReversed()) {
    for (const shift of [0, 8, 16, 24]) {
      starts.fill(0)
      yield * inSlices(count, (from, to) => {
        for (let row = from; row < to; row++) starts[(column[row]! >>> shift & 255) + 1]!++
      })
      if (starts.includes(count)) continue
      for (let value = 1; value < 257; value++) starts[value]! += starts[value - 1]!
      yield * inSlices(count, (from, to) => {
        for (let index = from; index < to; index++) {
          const row = order[index]!
          spare[starts[column[row]! >>> shift & 255]!++] = row
        }
      })
      ;[order, spare] = [spare, order]
    }
  }
  return order
}
