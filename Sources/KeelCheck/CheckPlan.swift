import KeelCore
import KeelPrimitives

/// Which cases are to run with which variants.
public struct CheckPlan: Sendable {
  /// The cases of one family.
  public struct Part: Sendable {
    public let family: String
    /// In the family's order.
    public let variants: [String]
    /// In the order in which they run.
    public let cases: [KernelCase]
  }

  /// One of several shares of about as many cases, which together have each variant of each family once.
  public struct Share: Sendable, Equatable {
    /// From 1.
    public let number: Int
    public let count: Int

    /// nil where there is no such share.
    public init?(_ number: Int, of count: Int) {
      guard (1...16).contains(count), (1...count).contains(number) else { return nil }
      (self.number, self.count) = (number, count)
    }

    /// Variants with many cases come first, and each goes where there are fewest so far.
    func of(_ parts: [Part]) -> [Part] {
      let variants = parts.flatMap { part in part.variants.map { (name: [part.family, $0], cases: part.cases.count) } }
      var sums = [Int](repeating: 0, count: count)
      var own: Set<[String]> = []
      for variant in variants.sorted(by: { $0.cases > $1.cases }) {
        let least = sums.indices.min { sums[$0] < sums[$1] } ?? 0
        sums[least] += variant.cases
        if least + 1 == number { own.insert(variant.name) }
      }
      return parts.compactMap { part in
        let variants = part.variants.filter { own.contains([part.family, $0]) }
        return variants.isEmpty ? nil : Part(family: part.family, variants: variants, cases: part.cases)
      }
    }
  }

  /// A name that nothing bears.
  public enum Unknown: Error, Equatable {
    case family(String, known: [String])
    case variant(String, known: [String])
    /// No case's name has the text.
    case caseText(String, names: [String])
  }

  public let parts: [Part]
  /// How often a variant runs in each precision before it has had enough; nil: every case runs.
  public let enough: [DType: Int]?
  /// Whether all variants of the families are in it, so that a case that none of them takes is an error.
  let hasAllVariants: Bool

  public var caseCount: Int { parts.reduce(0) { $0 + $1.cases.count } }

  /// - Parameters:
  ///   - families: as in `KernelFamilies`; nil for all.
  ///   - variant: of whichever of the families have it; nil for all.
  ///   - caseText: part of the names of the cases, or the whole name of one. Small and capital letters are the same, and
  ///     so are × and x.
  ///   - seed: of the random inputs.
  ///   - isQuick: a few cases a variant, the same ones every time: small ones, from all over the family's list.
  ///   - share: of the variants, so that several processes check them; nil for all.
  public init(
    families: [String]? = nil, variant: String? = nil, caseText: String? = nil, seed: UInt64 = KernelCase.testSeed,
    isQuick: Bool = false, share: Share? = nil
  ) throws(Unknown) {
    let known = KernelFamilies.variants
    for family in families ?? [] where known[family] == nil {
      throw .family(family, known: known.keys.sorted())
    }
    let chosen = families.map(Set.init) ?? Set(known.keys)
    let variants = known.filter { chosen.contains($0.key) }
      .mapValues { $0.filter { variant == nil || $0 == variant } }.filter { !$0.value.isEmpty }
    if let variant, variants.isEmpty {
      throw .variant(variant, known: Set(known.filter { chosen.contains($0.key) }.values.joined()).sorted())
    }

    var cases = KernelCases.all.filter { variants[$0.family] != nil }
    if let caseText {
      let wanted = Self.folded(caseText)
      let named = cases.map { (kernelCase: $0, name: Self.folded($0.name)) }
      let whole = named.filter { $0.name == wanted }
      let found = whole.isEmpty ? named.filter { $0.name.contains(wanted) } : whole
      if found.isEmpty { throw .caseText(caseText, names: cases.map(\.name)) }
      cases = found.map(\.kernelCase)
    }
    for index in cases.indices { cases[index].seed = seed }

    var order: [String] = []
    for kernelCase in cases where !order.contains(kernelCase.family) { order.append(kernelCase.family) }
    let all = order.map { family in
      let cases = cases.filter { $0.family == family }
      return Part(family: family, variants: variants[family] ?? [], cases: isQuick ? Self.quickOrder(cases) : cases)
    }
    parts = share?.of(all) ?? all
    enough = isQuick ? [.float32: 8, .float64: 2, .float16: 2, .bfloat16: 2] : nil
    hasAllVariants = variant == nil && (share?.count ?? 1) == 1
  }

  private static func folded(_ name: String) -> String { name.lowercased().replacing("×", with: "x") }

  /// The small cases first, each half, quarter, eighth… of the list before the ones between; then the others, the
  /// smallest first, for variants that take no small one.
  private static func quickOrder(_ cases: [KernelCase]) -> [KernelCase] {
    let small = cases.filter { $0.elementCount <= 10_000 }
    var places: [Int] = []
    var step = 1
    while step < small.count { step *= 2 }
    var isPlaced = Array(repeating: false, count: small.count)
    while step >= 1 {
      for place in stride(from: 0, to: small.count, by: step) where !isPlaced[place] {
        isPlaced[place] = true
        places.append(place)
      }
      step /= 2
    }
    let large = cases.filter { $0.elementCount > 10_000 }.sorted { $0.elementCount < $1.elementCount }
    return places.map { small[$0] } + large
  }
}

extension KernelCase {
  /// Of all inputs.
  fileprivate var elementCount: Int { inputs.reduce(0) { $0 + $1.shape.count } }
}
