import Testing

@testable import KeelCore

@Suite struct PhiloxTests {
  /// Known answers of philox4x32-10 from the Random123 library's `kat_vectors`.
  @Test(arguments: [
    (
      SIMD4<UInt32>(repeating: 0), SIMD2<UInt32>(repeating: 0),
      SIMD4<UInt32>(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8)
    ),
    (
      SIMD4(repeating: UInt32.max), SIMD2(repeating: UInt32.max),
      SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd)
    ),
    (
      SIMD4(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344), SIMD2(0xa409_3822, 0x299f_31d0),
      SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1)
    ),
  ])
  func knownAnswers(counter: SIMD4<UInt32>, key: SIMD2<UInt32>, expected: SIMD4<UInt32>) {
    #expect(Philox.block(counter: counter, key: key) == expected)
  }

  @Test func wordsAreTheBlocksOfTheStream() {
    var generator = Philox(seed: 0xffff_ffff_0000_0002, stream: 0x1_0000_0003)
    let words = (0..<8).map { _ in generator.nextWord() }
    let blocks = (0..<2).flatMap { index in
      let block = Philox.block(counter: SIMD4(UInt32(index), 0, 3, 1), key: SIMD2(2, .max))
      return (0..<4).map { block[$0] }
    }
    #expect(words == blocks)
  }

  @Test func seedsAndStreamsDiffer() {
    func words(_ generator: Philox) -> [UInt32] {
      var generator = generator
      return (0..<16).map { _ in generator.nextWord() }
    }
    #expect(words(Philox(seed: 1)) == words(Philox(seed: 1)))
    #expect(Set([Philox(seed: 1), Philox(seed: 2), Philox(seed: 1, stream: 1)].map(words)).count == 3)
  }

  @Test func uniformMoments() {
    var generator = Philox(seed: 7)
    let values = (0..<100_000).map { _ in generator.nextUniform() }
    #expect(values.allSatisfy { (0..<1).contains($0) && Double(Float($0)) == $0 })
    let mean = values.reduce(0, +) / 100_000
    let variance = values.reduce(0) { $0 + ($1 - 0.5) * ($1 - 0.5) } / 100_000
    // Five standard errors.
    #expect(abs(mean - 0.5) < 5 * (1.0 / 12 / 100_000).squareRoot())
    #expect(abs(variance - 1.0 / 12) < 5 * (1.0 / 180 / 100_000).squareRoot())
  }

  @Test func normalMoments() {
    let count = 100_000
    var generator = Philox(seed: 11)
    let values = (0..<count).map { _ in generator.nextNormal() }
    func moment(_ power: Int) -> Double {
      values.reduce(0) { sum, value in sum + (0..<power).reduce(1) { product, _ in product * value } } / Double(count)
    }
    #expect(values.allSatisfy { $0.isFinite })
    // Moments of the standard normal are 0, 1, 0, 3; their standard errors over n are √1, √2, √15, √96.
    for (power, expected, spread) in [(1, 0.0, 1.0), (2, 1, 2), (3, 0, 15), (4, 3, 96)] {
      #expect(abs(moment(power) - expected) < 5 * (spread / Double(count)).squareRoot(), "moment \(power)")
    }
    // One standard deviation holds 68.27 %.
    let inside = Double(values.count { abs($0) < 1 }) / Double(count)
    #expect(abs(inside - 0.6827) < 0.008)
  }

  @Test func indices() {
    var generator = Philox(seed: 3)
    #expect([0, -5, 1].map { generator.nextIndex(below: $0) } == [0, 0, 0])
    var counts = [Int](repeating: 0, count: 7)
    for _ in 0..<70_000 { counts[generator.nextIndex(below: 7)] += 1 }
    #expect(counts.allSatisfy { abs($0 - 10_000) < 470 }, "\(counts)")
  }

  @Test func indicesBelowLargeBounds() {
    var generator = Philox(seed: 3)
    for bound in [1 << 32, 3 << 40, Int.max] {
      let values = (0..<4000).map { _ in generator.nextIndex(below: bound) }
      #expect(values.allSatisfy { (0..<bound).contains($0) })
      // The mean of uniform values in units of the bound is 1/2 ± 1/√(12 n), at five standard errors.
      let mean = values.reduce(0.0) { $0 + Double($1) / Double(bound) } / 4000
      #expect(abs(mean - 0.5) < 5 / (12.0 * 4000).squareRoot(), "\(bound): \(mean)")
      #expect(Set(values.map { $0 & 0xff }).count > 200, "the low bits are random too")
    }
  }

  @Test func permutationOfACountThatIsNone() {
    var generator = Philox(seed: 5)
    #expect([-1, .min, 1 << 31 + 1, .max].allSatisfy { generator.permutation($0).isEmpty })
  }

  /// By the textbook, one draw and one swap after the other.
  private func fisherAndYates(_ order: [Int32], _ generator: inout Philox) -> [Int32] {
    var order = order
    for last in stride(from: order.count - 1, to: 0, by: -1) {
      order.swapAt(last, generator.nextIndex(below: last + 1))
    }
    return order
  }

  @Test(arguments: [1, 2, 255, 256, 257, 258, 1797, Philox.shuffledWhole])
  func permutationIsFisherAndYates(count: Int) {
    var (generator, other) = (Philox(seed: 5, stream: 2), Philox(seed: 5, stream: 2))
    // The permutation begins within a block of the generator.
    for _ in 0..<count % 4 { #expect(generator.nextWord() == other.nextWord()) }
    #expect(generator.permutation(count) == fisherAndYates((0..<Int32(count)).map { $0 }, &other))
    #expect(generator.nextWord() == other.nextWord())
  }

  /// By the textbook: a byte for each index, from the low one of a word on, says which of 256 pieces it is dealt to, and
  /// each piece is shuffled.
  @Test(arguments: [5, 1023, 1024, 1025, 100_000]) func permutationInPieces(count: Int) {
    var (generator, other) = (Philox(seed: 5, stream: 2), Philox(seed: 5, stream: 2))
    let order = generator.permutation(count, shuffledWhole: count - 1)
    var word: UInt32 = 0
    var pieces = [[Int32]](repeating: [], count: 256)
    for index in 0..<count {
      word = index % 4 == 0 ? other.nextWord() : word >> 8
      pieces[Int(word & 255)].append(Int32(index))
    }
    var expected: [Int32] = []
    for piece in pieces { expected += fisherAndYates(piece, &other) }
    #expect(order == expected)
    #expect(generator.nextWord() == other.nextWord())
  }

  @Test(arguments: [0, 1, 2, 1797, 60_000, Philox.shuffledWhole + 1, 300_007])
  func permutationIsAPermutation(count: Int) {
    var (generator, same, other) = (Philox(seed: 5), Philox(seed: 5), Philox(seed: 5, stream: 1))
    let order = generator.permutation(count)
    #expect(same.permutation(count) == order)
    #expect(order.sorted() == (0..<Int32(count)).map { $0 })
    if count > 100 {
      #expect(order != order.sorted())
      #expect(generator.permutation(count) != order)
      #expect(other.permutation(count) != order)
    }
  }

  @Test(arguments: [Philox.shuffledWhole, 4, 3]) func everyOrderIsAsLikely(shuffledWhole: Int) {
    var generator = Philox(seed: 9)
    var counts: [[Int32]: Int] = [:]
    for _ in 0..<24_000 { counts[generator.permutation(4, shuffledWhole: shuffledWhole), default: 0] += 1 }
    #expect(counts.count == 24)
    #expect(counts.values.allSatisfy { abs($0 - 1000) < 160 }, "\(counts.values.sorted())")
  }

  /// How often each index is at each place, as one piece and dealt. All rows and columns of these counts have the same
  /// sum, so (n - 1)² of the n² are free, and χ²·(n - 1)/n has that mean and twice that variance.
  @Test(arguments: [100, 99]) func everyPlaceIsAsLikely(shuffledWhole: Int) {
    let (count, rounds) = (100, 10_000)
    var generator = Philox(seed: 4)
    var seen = [Double](repeating: 0, count: count * count)
    for _ in 0..<rounds {
      for (place, index) in generator.permutation(count, shuffledWhole: shuffledWhole).enumerated() {
        seen[place * count + Int(index)] += 1
      }
    }
    let (expected, free) = (Double(rounds / count), Double((count - 1) * (count - 1)))
    let chiSquare = seen.reduce(0.0) { $0 + ($1 - expected) * ($1 - expected) / expected }
    let figure = chiSquare * Double(count - 1) / Double(count)
    #expect(abs(figure - free) < 5 * (2 * free).squareRoot(), "\(figure)")
  }
}
