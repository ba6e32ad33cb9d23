import Foundation

/// Philox4x32-10, a counter-based generator: word `i` of stream `s` under key `k` is a pure function of (k, s, i), so
/// initial weights, shuffles and noise do not depend on who asks first.
///
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
public struct Philox: Sendable {
  private let key: SIMD2<UInt32>
  private let stream: UInt64
  private var counter: UInt64 = 0
  private var block = SIMD4<UInt32>()
  private var next = 4

  /// - Parameters:
  ///   - seed: the key; the user's `--seed`.
  ///   - stream: which independent sequence of that seed (an epoch, a parameter).
  public init(seed: UInt64, stream: UInt64 = 0) {
    key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    self.stream = stream
  }

  /// One block of the function: four words from a 128-bit counter and a 64-bit key.
  public static func block(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
    // Scalars, which the processor has several blocks of under way.
    var (c0, c1, c2, c3) = (counter.x, counter.y, counter.z, counter.w)
    var (k0, k1) = (key.x, key.y)
    for _ in 0..<10 {
      let a = UInt64(c0) * 0xD251_1F53
      let b = UInt64(c2) * 0xCD9E_8D57
      (c0, c1, c2, c3) = (
        UInt32(truncatingIfNeeded: b >> 32) ^ c1 ^ k0, UInt32(truncatingIfNeeded: b),
        UInt32(truncatingIfNeeded: a >> 32) ^ c3 ^ k1, UInt32(truncatingIfNeeded: a)
      )
      (k0, k1) = (k0 &+ 0x9E37_79B9, k1 &+ 0xBB67_AE85)
    }
    return SIMD4(c0, c1, c2, c3)
  }

  private mutating func nextBlock() -> SIMD4<UInt32> {
    defer { counter += 1 }
    return Self.block(
      counter: SIMD4(
        UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32),
        UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32)), key: key)
  }

  /// The stream's next 32 bits.
  public mutating func nextWord() -> UInt32 {
    if next == 4 {
      block = nextBlock()
      next = 0
    }
    defer { next += 1 }
    return block[next]
  }

  /// The stream's next words into the first `count` places.
  mutating func fill(_ words: inout [UInt32], _ count: Int) {
    var filled = 0
    while filled < count {
      if next == 4, count - filled >= 4 {
        let block = nextBlock()
        for index in 0..<4 { words[filled + index] = block[index] }
        filled += 4
      } else {
        words[filled] = nextWord()
        filled += 1
      }
    }
  }

  /// Uniform in [0, 1) with 24 random bits, so that every value is exact in single precision.
  public mutating func nextUniform() -> Double { Double(nextWord() >> 8) * 0x1p-24 }

  /// Standard normal by the Box–Muller transform (one of its pair).
  public mutating func nextNormal() -> Double {
    let radius = (-2 * log(1 - nextUniform())).squareRoot()
    return radius * cos(2 * Double.pi * nextUniform())
  }

  /// Uniform in 0..<bound without modulo bias (Lemire, "Fast random integer generation in an interval", 2019). A bound
  /// of 0 or less gives 0. One word a draw, now and then more; two for a bound of 2³² or more.
  public mutating func nextIndex(below bound: Int) -> Int {
    guard bound > 1 else { return 0 }
    guard let bound = UInt32(exactly: bound) else { return nextLongIndex(below: UInt64(bound)) }
    var product = UInt64(nextWord()) * UInt64(bound)
    if UInt32(truncatingIfNeeded: product) < bound {
      let threshold = (0 &- bound) % bound
      while UInt32(truncatingIfNeeded: product) < threshold { product = UInt64(nextWord()) * UInt64(bound) }
    }
    return Int(product >> 32)
  }

  /// The same from 64 bits.
  private mutating func nextLongIndex(below bound: UInt64) -> Int {
    let threshold = (0 &- bound) % bound
    while true {
      let product = (UInt64(nextWord()) << 32 | UInt64(nextWord())).multipliedFullWidth(by: bound)
      if product.low >= threshold { return Int(product.high) }
    }
  }
}
