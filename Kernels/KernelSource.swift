import Foundation

/// The text of the kernels that are embedded in the program, by file name.
///
/// `KEEL_KERNELS_DIR` names a folder to read them from instead (the repository's `Kernels`, or a copy of it), so that a
/// kernel can be edited and run without a build.
public struct KernelSource: Sendable {
  /// A kernel file that is not there or cannot be read.
  public struct Failure: Error, Equatable, CustomStringConvertible {
    /// `[kernels] what was expected, what came`.
    public let description: String
  }

  private let directory: String?

  /// - Parameter directory: where to read from; nil for the embedded files.
  public init(directory: String? = ProcessInfo.processInfo.environment["KEEL_KERNELS_DIR"]) {
    self.directory = directory.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// Every embedded file, sorted. Names are unique across folders.
  public static var names: [String] { embedded.keys.sorted() }

  /// The text of one file as it stands. Throws `Failure` when there is no such file, or it cannot be read.
  public func text(_ name: String) throws -> String {
    guard let bytes = Self.embedded[name] else { throw Failure(description: "[kernels] no file \(name)") }
    guard let directory else { return String(decoding: bytes, as: UTF8.self) }
    let folder = URL(fileURLWithPath: directory)
    let candidates = [folder] + Self.families.map { folder.appendingPathComponent($0) }
    for candidate in candidates {
      let file = candidate.appendingPathComponent(name)
      guard FileManager.default.fileExists(atPath: file.path) else { continue }
      do {
        return String(decoding: try Data(contentsOf: file), as: UTF8.self)
      } catch {
        throw Failure(
          description: "[kernels] KEEL_KERNELS_DIR=\(directory): cannot read \(file.path): "
            + error.localizedDescription)
      }
    }
    let families = Self.families.joined(separator: ", ")
    throw Failure(description: "[kernels] KEEL_KERNELS_DIR=\(directory) has no \(name), directly or in \(families)")
  }

  /// The text with every `#include "…"` replaced by the file it names, each file once. `#line` directives keep the
  /// compiler's messages pointing at the `.cl` files.
  public func resolved(_ name: String) throws -> String {
    var included: Set<String> = []
    return try resolved(name, &included)
  }

  private func resolved(_ name: String, _ included: inout Set<String>) throws -> String {
    guard included.insert(name).inserted else { return "" }
    var lines = ["#line 1 \"\(name)\""]
    for (number, line) in try text(name).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if line.hasPrefix("#include \""), let file = line.split(separator: "\"").dropFirst().first {
        lines.append(try resolved(String(file), &included))
        lines.append("#line \(number + 2) \"\(name)\"")
      } else {
        lines.append(String(line))
      }
    }
    return lines.joined(separator: "\n")
  }
}

extension KernelSource {
  static let families = [
    "batchnorm", "common", "data", "elementwise", "gemm", "merged", "optimizer", "probe", "reduce", "softmax",
  ]

  /// A test holds this table against the folders.
  private static let embedded: [String: [UInt8]] = [
    "adam.cl": PackageResources.adam_cl,
    "adam.clh": PackageResources.adam_clh,
    "affine_product.cl": PackageResources.affine_product_cl,
    "batchnorm.clh": PackageResources.batchnorm_clh,
    "batchnorm_backward_dx.cl": PackageResources.batchnorm_backward_dx_cl,
    "batchnorm_backward_fused.cl": PackageResources.batchnorm_backward_fused_cl,
    "batchnorm_backward_reduce.cl": PackageResources.batchnorm_backward_reduce_cl,
    "batchnorm_columns.clh": PackageResources.batchnorm_columns_clh,
    "batchnorm_forward_fused.cl": PackageResources.batchnorm_forward_fused_cl,
    "batchnorm_grid.clh": PackageResources.batchnorm_grid_clh,
    "batchnorm_groups.clh": PackageResources.batchnorm_groups_clh,
    "batchnorm_normalize.cl": PackageResources.batchnorm_normalize_cl,
    "batchnorm_running_update.cl": PackageResources.batchnorm_running_update_cl,
    "batchnorm_runs.clh": PackageResources.batchnorm_runs_clh,
    "batchnorm_statistics.cl": PackageResources.batchnorm_statistics_cl,
    "elementwise.cl": PackageResources.elementwise_cl,
    "flat_update.clh": PackageResources.flat_update_clh,
    "gather.cl": PackageResources.gather_cl,
    "gemm_batchnorm_cpu.cl": PackageResources.gemm_batchnorm_cpu_cl,
    "gemm_blocks.cl": PackageResources.gemm_blocks_cl,
    "gemm_direct_cpu.cl": PackageResources.gemm_direct_cpu_cl,
    "gemm_merge_cpu.cl": PackageResources.gemm_merge_cpu_cl,
    "gemm_naive.cl": PackageResources.gemm_naive_cl,
    "gemm_packed_cpu.cl": PackageResources.gemm_packed_cpu_cl,
    "gemm_panel.clh": PackageResources.gemm_panel_clh,
    "gemm_result.clh": PackageResources.gemm_result_clh,
    "gemm_split_cpu.cl": PackageResources.gemm_split_cpu_cl,
    "gemm_tile.clh": PackageResources.gemm_tile_clh,
    "guard.clh": PackageResources.guard_clh,
    "lanes.clh": PackageResources.lanes_clh,
    "math.clh": PackageResources.math_clh,
    "merged.cl": PackageResources.merged_cl,
    "probe_copy.cl": PackageResources.probe_copy_cl,
    "probe_fma.cl": PackageResources.probe_fma_cl,
    "probe_read.cl": PackageResources.probe_read_cl,
    "real.clh": PackageResources.real_clh,
    "record.cl": PackageResources.record_cl,
    "reduce.cl": PackageResources.reduce_cl,
    "sgd.cl": PackageResources.sgd_cl,
    "sgd.clh": PackageResources.sgd_clh,
    "softmax_cross_entropy.cl": PackageResources.softmax_cross_entropy_cl,
    "storage.clh": PackageResources.storage_clh,
    "transpose.cl": PackageResources.transpose_cl,
  ]
}
