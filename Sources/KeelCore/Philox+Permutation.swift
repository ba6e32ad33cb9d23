extension Philox {
  /// A random order of 0..<count. Empty for a count of 0 or less, and for one above 2³¹, whose indices an `Int32` cannot
  /// hold.
  ///
  /// By Fisher and Yates, whose swaps go all over the order. One of more than 2¹⁸ indices would be read from memory for
  /// them: there each index is first dealt to one of 256 pieces, and each piece is shuffled. All orders are as likely.
  ///
  /// Sources: Rao, "Generation of random permutation of given number of elements using random sampling numbers", Sankhyā
  /// 1961; Sandelius, "A simple randomization procedure", Journal of the Royal Statistical Society B, 1962.
  public mutating func permutation(_ count: Int) -> [Int32] { permutation(count, shuffledWhole: Self.shuffledWhole) }

  /// The most indices that are shuffled without being dealt: what a second-level cache holds.
  static let shuffledWhole = 1 << 18

  mutating func permutation(_ count: Int, shuffledWhole: Int) -> [Int32] {
    guard count > 0, Int32(exactly: count - 1) != nil else { return [] }
    var drawn = Drawn()
    guard count > shuffledWhole else {
      var order = (0..<count).map { Int32(truncatingIfNeeded: $0) }
      var span = order.mutableSpan
      shuffle(&span, 0..<count, &drawn)
      return order
    }
    let pieces = pieces(count, &drawn)
    // Where a piece begins, and when it has its indices where it ends.
    var ends = [Int](repeating: 0, count: 256)
    for piece in pieces { ends[Int(piece)] += 1 }
    var begin = 0
    for piece in ends.indices { (ends[piece], begin) = (begin, begin + ends[piece]) }
    var order = [Int32](repeating: 0, count: count)
    var span = order.mutableSpan
    for index in pieces.indices {
      let piece = Int(pieces[index])
      span[ends[piece]] = Int32(truncatingIfNeeded: index)
      ends[piece] += 1
    }
    begin = 0
    for end in ends {
      shuffle(&span, begin..<end, &drawn)
      begin = end
    }
    return order
  }

  /// Room for numbers that are drawn ahead.
  private struct Drawn {
    var words = [UInt32](repeating: 0, count: 256)
    var indices = [Int](repeating: 0, count: 256)
  }

  /// A piece for each index, a byte of a word.
  private mutating func pieces(_ count: Int, _ drawn: inout Drawn) -> [UInt8] {
    var pieces = [UInt8](repeating: 0, count: count)
    var span = pieces.mutableSpan
    for start in stride(from: 0, to: count, by: 4 * drawn.words.count) {
      let length = min(count - start, 4 * drawn.words.count)
      fill(&drawn.words, (length + 3) / 4)
      for index in 0..<length {
        span[start + index] = UInt8(truncatingIfNeeded: drawn.words[index / 4] >> UInt32(8 * (index % 4)))
      }
    }
    return pieces
  }

  /// Fisher and Yates over a range of the order, with indices as ``nextIndex(below:)`` gives them. They are drawn ahead,
  /// so that the swaps are close together and wait for memory side by side.
  private mutating func shuffle(_ order: inout MutableSpan<Int32>, _ range: Range<Int>, _ drawn: inout Drawn) {
    var last = range.count - 1
    while last > 0 {
      let length = min(last, drawn.words.count)
      fill(&drawn.words, length)
      var count = 0
      for word in drawn.words.prefix(length) {
        let bound = UInt32(truncatingIfNeeded: last - count + 1)
        let product = UInt64(word) * UInt64(bound)
        let low = UInt32(truncatingIfNeeded: product)
        if low < bound, low < (0 &- bound) % bound { continue }
        drawn.indices[count] = Int(product >> 32)
        count += 1
      }
      for index in 0..<count {
        order.swapAt(range.lowerBound + last - index, range.lowerBound + drawn.indices[index])
      }
      last -= count
    }
  }
}
