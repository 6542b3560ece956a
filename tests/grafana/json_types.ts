// Grafana's types as JSON has them: an enum of strings is written as its string.
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as Heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as StateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Json<T> = T extends string ? `${T}` : T extends (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// What only the Prometheus data source reads; @grafana/schema does not export its query, so this is from its documentation.
interface PrometheusQuery extends DataQuery {
  expr: string;
  interval?: string;
}
interface PrometheusAnnotation extends AnnotationQuery<PrometheusQuery> {
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
  useValueForTime?: boolean;
}

// Grafana's Panel says nothing of its options, and allows any custom field; here both are exactly those of the kind.
type Exact<TOptions, TCustom> = Omit<Panel, 'options' | 'fieldConfig'> & {
  options: TOptions;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & { defaults: Omit<FieldConfig, 'custom'> & { custom?: TCustom } };
};

export type row = Json<RowPanel>;
export type heatmap = Json<Exact<Heatmap.Options, Heatmap.FieldConfig>>;
export type stat = Json<Exact<Stat.Options, never>>;
export type state_timeline = Json<Exact<StateTimeline.Options, StateTimeline.FieldConfig>>;
export type table = Json<Exact<Table.Options, Table.FieldConfig>>;
export type timeseries = Json<Exact<TimeSeries.Options, TimeSeries.FieldConfig>>;
export type annotation = Json<PrometheusAnnotation>;
export type dashboard = Json<Dashboard>;
