/**
 * Makes overlapping ranges disjoint: one walk from the lowest address to the highest.
 *
 * Where several ranges cover an address, the one that ends last in time decides, so every piece of the result has one end
 * that is known beforehand. What has expired is then left out by a comparison in each look-up, to the millisecond, with no
 * timer and nothing to compile again.
 */

import { columnsOf, compareRows, copyRow, inSlices, orderOf, slice, stepRow, withLandmarks, type Columns, type RangeTable, type SortedTable } from './range-table.js'

/** The same addresses with the same ends in time, as a sorted table. */
export function * sweepRanges (ranges: RangeTable): Generator<undefined, SortedTable> {
  const order = yield * orderOf(ranges.firsts, ranges.count)
  const sweep = new Sweep(ranges)
  yield * inSlices(ranges.count, (from, to) => {
    for (let index = from; index < to; index++) sweep.enter(order[index]!)
  })
  let goesOn = true
  while (goesOn) {
    for (let step = 0; goesOn && step < slice; step++) goesOn = sweep.settle(undefined)
    yield
  }
  return withLandmarks(yield * sweep.pieces.table())
}

class Sweep {
  readonly pieces: Pieces
  readonly #ranges: RangeTable
  /** Ranges that have begun and may not have ended, as row numbers in a heap: the one that decides is on top. */
  readonly #begun: number[] = []
  /** The first address that is not settled. */
  readonly #cursor: Columns
  readonly #end: Columns

  constructor (ranges: RangeTable) {
    const width = ranges.firsts.length
    this.pieces = new Pieces(ranges)
    this.#ranges = ranges
    this.#cursor = columnsOf(width, 1)
    this.#end = columnsOf(width, 1)
  }

  /** Takes the next range, which begins no earlier than those before, and settles what lies before it. */
  enter (row: number): void {
    const { firsts, lasts } = this.#ranges
    let goesOn = true
    while (goesOn) goesOn = this.settle(row)
    copyRow(this.#cursor, 0, firsts, row)
    const top = this.#begun[0]
    // What ends no later than the top in both ways can never decide. Where nothing expires, that keeps the heap tiny.
    if (top === undefined || this.#decides(row, top) || compareRows(lasts, row, lasts, top) > 0) this.#push(row)
  }

  /** Writes down what the top decides, up to its last address or to where `next` begins. False if there is no more to settle. */
  settle (next: number | undefined): boolean {
    const { firsts, lasts, expiries } = this.#ranges
    const top = this.#begun[0]
    if (top === undefined || (next !== undefined && compareRows(this.#cursor, 0, firsts, next) >= 0)) return false
    const isOver = compareRows(lasts, top, this.#cursor, 0) < 0
    if (isOver) { this.#pop(); return true }
    const reachesNext = next !== undefined && compareRows(lasts, top, firsts, next) >= 0
    if (reachesNext) {
      copyRow(this.#end, 0, firsts, next)
      stepRow(this.#end, 0, -1)
    } else copyRow(this.#end, 0, lasts, top)
    this.pieces.add(this.#cursor, this.#end, expiries?.[top])
    if (reachesNext) return false
    this.#pop()
    copyRow(this.#cursor, 0, this.#end, 0)
    stepRow(this.#cursor, 0, 1)
    // After the highest address of all comes the lowest: everything is settled.
    return this.#cursor.some((word) => word[0] !== 0)
  }

  #decides (row: number, other: number): boolean {
    const { lasts, expiries } = this.#ranges
    if (expiries !== undefined && expiries[row] !== expiries[other]) return expiries[row]! > expiries[other]!
    return compareRows(lasts, row, lasts, other) > 0
  }

  #push (row: number): void {
    const heap = this.#begun
    let place = heap.push(row) - 1
    while (place > 0) {
      const parent = (place - 1) >>> 1
      if (!this.#decides(row, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = row
  }

  #pop (): void {
    const heap = this.#begun
    const row = heap.pop()!
    if (heap.length === 0) return
    let place = 0
    for (let child = 1; child < heap.length; child = 2 * place + 1) {
      if (child + 1 < heap.length && this.#decides(heap[child + 1]!, heap[child]!)) child++
      if (!this.#decides(heap[child]!, row)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = row
  }
}

/** What has been settled, in ascending order. Neighbours with the same end in time are one piece. */
class Pieces {
  #count = 0
  #firsts: Columns
  #lasts: Columns
  #expiries: Float64Array | undefined
  /** Scratch: the address after the last piece. */
  readonly #after: Columns

  constructor ({ count, firsts, expiries }: RangeTable) {
    this.#firsts = columnsOf(firsts.length, count)
    this.#lasts = columnsOf(firsts.length, count)
    this.#expiries = expiries && new Float64Array(count)
    this.#after = columnsOf(firsts.length, 1)
  }

  add (first: Columns, last: Columns, expiry: number | undefined): void {
    if (this.#continues(first, expiry)) {
      copyRow(this.#lasts, this.#count - 1, last, 0)
      return
    }
    // Pieces are fewer than twice the ranges, and seldom more than the ranges.
    if (this.#count === this.#firsts[0]!.length) this.#grow(2 * this.#count)
    copyRow(this.#firsts, this.#count, first, 0)
    copyRow(this.#lasts, this.#count, last, 0)
    if (this.#expiries !== undefined) this.#expiries[this.#count] = expiry!
    this.#count++
  }

  /** What there is, in columns of just that length. */
  * table (): Generator<undefined, RangeTable> {
    const count = this.#count
    if (count === this.#firsts[0]!.length) return { count, firsts: this.#firsts, lasts: this.#lasts, expiries: this.#expiries }
    const firsts = yield * shortened(this.#firsts, count)
    this.#firsts = []
    return { count, firsts, lasts: yield * shortened(this.#lasts, count), expiries: this.#expiries?.slice(0, count) }
  }

  #continues (first: Columns, expiry: number | undefined): boolean {
    if (this.#count === 0 || this.#expiries?.[this.#count - 1] !== expiry) return false
    copyRow(this.#after, 0, this.#lasts, this.#count - 1)
    stepRow(this.#after, 0, 1)
    return compareRows(this.#after, 0, first, 0) === 0
  }

  #grow (rows: number): void {
    const grown = <T extends Uint32Array | Float64Array>(column: T, larger: T): T => {
      larger.set(column)
      return larger
    }
    this.#firsts = this.#firsts.map((column) => grown(column, new Uint32Array(rows)))
    this.#lasts = this.#lasts.map((column) => grown(column, new Uint32Array(rows)))
    this.#expiries &&= grown(this.#expiries, new Float64Array(rows))
  }
}

/** Copies, a column at a time. */
function * shortened (columns: Columns, rows: number): Generator<undefined, Columns> {
  const copies: Uint32Array[] = []
  for (const column of columns) {
    copies.push(column.slice(0, rows))
    yield
  }
  return copies
}
