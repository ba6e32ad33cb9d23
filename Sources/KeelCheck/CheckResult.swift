import Foundation
import KeelCore

/// What became of one case with one variant.
public struct CheckResult: Sendable, CustomStringConvertible {
  public enum Verdict: Sendable, Equatable {
    case passed
    case failed(String)
    case skipped(String)
  }

  /// The result that came nearest to its bound, or went furthest beyond it.
  public struct Worst: Sendable {
    public var output: String
    /// Row-major.
    public var index: Int
    public var got: Double
    public var expected: Double
    /// In units of the type's epsilon times the bound's scale.
    public var error: Double
    public var bound: Double
    /// Of the output; nil where it is not known.
    public var shape: Shape? = nil

    /// ``index`` as a place in the output: `[3, 16]`.
    public var place: String {
      guard let shape, shape.count > index, !shape.dimensions.isEmpty else { return "\(index)" }
      var rest = index
      var place: [Int] = []
      for extent in shape.dimensions.reversed() {
        place.append(rest % extent)
        rest /= extent
      }
      return "\(Array(place.reversed()))"
    }

    /// Above 1 where the bound is broken.
    public var ratio: Double {
      error <= bound ? error / Swift.max(bound, .leastNonzeroMagnitude) : Swift.max(error / bound, 1.5)
    }
  }

  public var family: String
  /// Of the case, without its family.
  public var name: String
  public var seed: UInt64
  public var device: String
  public var variant: String
  public var verdict: Verdict
  public var worst: Worst?
  /// Of the bits of all results; nil where there are none.
  public var digest: Digest? = nil

  public var description: String {
    let numbers = worst.map {
      String(format: "%@ error %.3g eps, bound %.3g", $0.output, $0.error, $0.bound)
        + ($0.error > $0.bound ? ", at \($0.place): got \($0.got), expected \($0.expected)" : "")
    }
    let verdict =
      switch verdict {
      case .passed: "passed"
      case .failed(let reason): "FAILED: \(reason)"
      case .skipped(let reason): "skipped: \(reason)"
      }
    let title = "\(family) \(name) [\(variant)] on \(device)"
    return ["\(title): \(verdict)", numbers].compactMap { $0 }.joined(separator: "; ")
  }

  public var hasFailed: Bool { if case .failed = verdict { true } else { false } }
}

extension KernelCase {
  /// Compares all results with the reference; nil when there are none.
  func worst(
    _ got: [String: [Double]], _ reference: [String: [Double]], terms: [String: [Double]]
  ) -> CheckResult.Worst? {
    let parts = Set(sums.values.joined())
    var worst: CheckResult.Worst?
    func compare(_ name: String, _ got: [Double], _ expected: [Double], _ differences: [Double]) {
      let bound = bounds[name] ?? bound
      let scales: (Int) -> Double
      switch bound.scale {
      case .largest:
        let largest = Self.largest(expected)
        scales = { _ in largest }
      case .each: scales = { Swift.abs(expected[$0]) }
      case .fixed(let scale): scales = { _ in scale }
      case .terms:
        // A result without terms, or one that is not a number, is as good as unbounded: it fails unless it is exact.
        let values = terms[name] ?? []
        scales = { values.indices.contains($0) ? values[$0] : .nan }
      }
      for index in expected.indices {
        let error = Self.error(got[index], expected[index], differences[index], unit(scales(index)))
        let candidate = CheckResult.Worst(
          output: name, index: index, got: got[index], expected: expected[index], error: error, bound: eps(bound))
        if worst.map({ $0.ratio < candidate.ratio }) ?? true { worst = candidate }
      }
    }
    func all(_ name: String) -> [Double] {
      let count = reference[name]?.count ?? 0
      guard let values = got[name], values.count == count else { return Array(repeating: .nan, count: count) }
      return values
    }
    for (name, expected) in reference.sorted(by: { $0.key < $1.key }) where !parts.contains(name) {
      let got = all(name)
      compare(name, got, expected, Self.zipped(got, expected, -))
    }
    for (name, terms) in sums.sorted(by: { $0.key < $1.key }) {
      // The differences first: summing the parts of a value would round it to the digits of the larger one.
      let expected = terms.map { reference[$0] ?? [] }
      let got = terms.map(all)
      compare(name, Self.sum(got), Self.sum(expected), Self.sum(zip(got, expected).map { Self.zipped($0, $1, -) }))
    }
    return worst
  }

  /// An epsilon of the scale. Below the smallest normal number digits are lost, and devices may flush to zero.
  private func unit(_ scale: Double) -> Double {
    guard scale.isFinite else { return .nan }
    return Swift.max(scale, dtype.leastNormalMagnitude) * epsilon + dtype.arithmetic.leastNormalMagnitude
  }

  private static func largest(_ values: [Double]) -> Double {
    values.lazy.filter(\.isFinite).map(Swift.abs).max() ?? 0
  }

  private static func zipped(_ a: [Double], _ b: [Double], _ combine: (Double, Double) -> Double) -> [Double] {
    zip(a, b).map { combine($0, $1) }
  }

  private static func sum(_ terms: [[Double]]) -> [Double] {
    terms.dropFirst().reduce(terms.first ?? []) { zipped($0, $1, +) }
  }

  /// The difference in units of `unit`. NaN is equal to NaN and to nothing else; so is each infinity.
  private static func error(_ got: Double, _ expected: Double, _ difference: Double, _ unit: Double) -> Double {
    if got.isNaN && expected.isNaN { return 0 }
    guard got.isFinite, expected.isFinite else { return got == expected ? 0 : .infinity }
    if difference == 0 { return 0 }
    return unit.isFinite ? Swift.abs(difference) / unit : .infinity
  }
}
