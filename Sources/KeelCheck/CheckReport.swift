import KeelCore

/// What a plan came to.
public struct CheckReport: Sendable {
  /// One variant of a family over all its cases.
  public struct VariantSummary: Sendable {
    public let family: String
    public let variant: String
    /// 0 where the device, or its cases, are not for this variant.
    public private(set) var runs = 0
    public private(set) var failures = 0
    /// The result nearest to its bound, or furthest beyond it.
    public private(set) var worst: CheckResult?
    /// Of the results of all runs, in their order: the same on the same device however many threads it has.
    public private(set) var digest = Digest()

    init(family: String, variant: String) {
      self.family = family
      self.variant = variant
    }

    mutating func add(_ result: CheckResult) {
      runs += 1
      if result.hasFailed { failures += 1 }
      if let digest = result.digest { self.digest.add(digest) }
      guard let error = result.worst else { return }
      if worst?.worst.map({ $0.ratio < error.ratio }) ?? true { worst = result }
    }
  }

  /// Cases that ran with at least one variant.
  public internal(set) var cases = 0
  /// A case with a variant is a run, however often it is repeated.
  public internal(set) var runs = 0
  /// Cases in double precision that the device has not.
  public internal(set) var skipped = 0
  public internal(set) var variants: [VariantSummary] = []
  public internal(set) var failures: [CheckResult] = []

  /// Of the results of all variants.
  public var digest: Digest {
    var digest = Digest()
    for summary in variants { digest.add(summary.digest) }
    return digest
  }
}

/// What an observer of a check hears of.
public enum CheckEvent {
  /// A case is about to run with a variant; `done` cases of the plan are behind it.
  case begins(KernelCase, variant: String, done: Int)
  case ends(CheckResult)
  /// All variants of a family are done.
  case family([CheckReport.VariantSummary])
}

extension CheckRunner {
  /// Runs a plan; an error of the observer ends it.
  public func check(_ plan: CheckPlan, observe: (CheckEvent) throws -> Void) rethrows -> CheckReport {
    var report = CheckReport()
    var done = 0
    for part in plan.parts {
      var summaries = part.variants.map { CheckReport.VariantSummary(family: part.family, variant: $0) }
      var counts: [DType: [Int]] = [:]
      for kernelCase in part.cases {
        defer { done += 1 }
        if kernelCase.dtype == .float64, !context.profile.hasFP64 {
          report.skipped += 1
          continue
        }
        var count = counts[kernelCase.dtype] ?? part.variants.map { _ in 0 }
        let wanted = part.variants.indices.filter { count[$0] < plan.enough.map { $0[kernelCase.dtype] ?? 0 } ?? .max }
        var isRun = false
        for index in wanted {
          let variant = part.variants[index]
          try observe(.begins(kernelCase, variant: variant, done: done))
          guard let result = check(kernelCase, variant: variant) else { continue }
          isRun = true
          count[index] += 1
          summaries[index].add(result)
          report.runs += 1
          if result.hasFailed { report.failures.append(result) }
          try observe(.ends(result))
        }
        counts[kernelCase.dtype] = count
        if isRun { report.cases += 1 }
        if !isRun, plan.hasAllVariants, wanted.count == part.variants.count {
          report.failures.append(result(kernelCase, "", .failed("no variant takes it")))
        }
      }
      report.variants += summaries
      try observe(.family(summaries))
    }
    return report
  }
}
