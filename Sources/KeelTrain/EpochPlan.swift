/// How an epoch is cut into steps.
struct EpochPlan {
  /// The sizes of batch that occur: the full one, then the short last one.
  let batches: [Int]
  /// How many steps there are of each.
  let counts: [Int]

  init(_ data: any SampleSource, batchSize: Int, dropsLast: Bool) throws {
    guard batchSize > 0 else { throw TrainingError("expects a batch size above 0, got \(batchSize)") }
    let size = min(batchSize, data.count)
    let remainder = data.count % size
    batches = [size] + (remainder > 0 && !dropsLast ? [remainder] : [])
    counts = [data.count / size] + (batches.count > 1 ? [1] : [])
  }

  var steps: Int { counts.reduce(0, +) }
  /// The batch size of each step.
  var rows: [Int] { zip(batches, counts).flatMap { Array(repeating: $0, count: $1) } }

  /// The epoch cut into windows of as many steps; the last one may have fewer.
  func windows(ofSteps size: Int) -> [EpochWindow] {
    stride(from: 0, to: steps, by: size).enumerated().map { number, first in
      let end = min(first + size, steps)
      let full = min(end, counts[0]) - first
      let counts = [full] + (batches.count > 1 ? [end - first - full] : [])
      let start = first * batches[0]
      let samples = zip(batches, counts).reduce(0) { $0 + $1.0 * $1.1 }
      return EpochWindow(number: number, samples: start..<start + samples, counts: counts)
    }
  }
}

/// Steps of an epoch whose samples are on the device together.
struct EpochWindow: Equatable {
  /// From 0.
  let number: Int
  /// Positions in the epoch's order.
  let samples: Range<Int>
  /// How many steps there are of each size of batch.
  let counts: [Int]

  /// Windows take turns in two places.
  var slot: Int { number % 2 }

  /// Its steps, cut into pieces of at most `size`: how many there are of each size of batch.
  func bursts(ofSteps size: Int) -> [[Int]] {
    var left = counts
    var bursts: [[Int]] = []
    while left.contains(where: { $0 > 0 }) {
      var room = size
      bursts.append(
        left.indices.map { index in
          let count = min(left[index], room)
          left[index] -= count
          room -= count
          return count
        })
    }
    return bursts
  }
}

extension Evaluation {
  /// From a history's rows of mean loss and hits, for batches of `rows` samples.
  ///
  /// - Parameter skipsNonFinite: leaves out batches whose loss is not finite.
  init(figures: [Double], rows: [Int], isClassification: Bool, skipsNonFinite: Bool = false) {
    var count = 0
    var (loss, hits) = (0.0, 0.0)
    for (step, rows) in rows.enumerated() where !skipsNonFinite || figures[2 * step].isFinite {
      count += rows
      loss += figures[2 * step] * Double(rows)
      hits += figures[2 * step + 1]
    }
    self.init(
      loss: count == 0 ? .nan : loss / Double(count),
      accuracy: isClassification && count > 0 ? hits / Double(count) : nil, count: count)
  }
}
