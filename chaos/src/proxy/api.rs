//! Toxiproxy's HTTP API, as documented in its README.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Registry;
use super::forwarder::{Forwarder, Settings};
use super::toxic::Toxic;

type Shared = State<Arc<Registry>>;
type Answer<T> = Result<T, Refusal>;

/// The routes.
pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/reset", post(reset))
        .route("/populate", post(populate))
        .route("/proxies", get(list).post(create))
        .route("/proxies/{proxy}", get(show).post(update).patch(update).delete(delete))
        .route("/proxies/{proxy}/toxics", get(toxics).post(add_toxic))
        .route(
            "/proxies/{proxy}/toxics/{toxic}",
            get(show_toxic).post(update_toxic).patch(update_toxic).delete(delete_toxic),
        )
        .with_state(registry)
}

/// An answer that says no, in Toxiproxy's form.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1, "status": self.0.as_u16()}))).into_response()
    }
}

fn not_found(what: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("{what} not found"))
}

fn bad(why: impl ToString) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why.to_string())
}

fn internal(why: impl ToString) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
}

/// Parses a body whatever its content type, as Toxiproxy does.
fn parse<T: for<'de> Deserialize<'de>>(body: &str) -> Answer<T> {
    serde_json::from_str(body).map_err(bad)
}

async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

async fn reset(State(registry): Shared) -> Answer<StatusCode> {
    for proxy in registry.proxies.lock().await.values_mut() {
        proxy.set_toxics(Vec::new());
        proxy.enable().await.map_err(internal)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn list(State(registry): Shared) -> Json<BTreeMap<String, Settings>> {
    let proxies = registry.proxies.lock().await;
    Json(proxies.iter().map(|(name, proxy)| (name.clone(), proxy.settings())).collect())
}

async fn create(State(registry): Shared, body: String) -> Answer<(StatusCode, Json<Settings>)> {
    let settings: Settings = parse(&body)?;
    let mut proxies = registry.proxies.lock().await;
    if proxies.contains_key(&settings.name) {
        return Err(Refusal(StatusCode::CONFLICT, "proxy already exists".into()));
    }
    let proxy = start(settings, registry.seed).await?;
    let answer = proxy.settings();
    proxies.insert(answer.name.clone(), proxy);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A toxic as it may be.
fn sound(toxic: Toxic) -> Answer<Toxic> {
    match (0.0..=1.0).contains(&toxic.toxicity) {
        true => Ok(toxic.named()),
        false => Err(bad("toxicity must be from 0 to 1")),
    }
}

async fn start(mut settings: Settings, seed: u64) -> Answer<Forwarder> {
    settings.toxics = settings.toxics.into_iter().map(sound).collect::<Answer<_>>()?;
    if settings.name.is_empty() || settings.upstream.is_empty() || settings.listen.is_empty() {
        return Err(bad("name, listen and upstream are required"));
    }
    if settings.upstream == settings.listen {
        return Err(bad("listen and upstream are the same address"));
    }
    Forwarder::start(settings, seed).await.map_err(internal)
}

/// Makes each proxy that is not there in this form yet; one of the same name is replaced.
async fn populate(State(registry): Shared, body: String) -> Answer<(StatusCode, Json<Value>)> {
    let wanted: Vec<Settings> = parse(&body)?;
    let mut proxies = registry.proxies.lock().await;
    let mut answer = Vec::new();
    for settings in wanted {
        let name = settings.name.clone();
        if let Some(mut old) = proxies.remove(&name) {
            old.disable().await;
        }
        let proxy = start(settings, registry.seed).await?;
        answer.push(proxy.settings());
        proxies.insert(name, proxy);
    }
    Ok((StatusCode::CREATED, Json(json!({"proxies": answer}))))
}

async fn show(State(registry): Shared, Path(name): Path<String>) -> Answer<Json<Settings>> {
    let proxies = registry.proxies.lock().await;
    proxies.get(&name).map(|proxy| Json(proxy.settings())).ok_or_else(|| not_found("proxy"))
}

#[derive(Deserialize)]
struct Change {
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

async fn update(State(registry): Shared, Path(name): Path<String>, body: String) -> Answer<Json<Settings>> {
    let change: Change = parse(&body)?;
    let mut proxies = registry.proxies.lock().await;
    let proxy = proxies.get_mut(&name).ok_or_else(|| not_found("proxy"))?;
    let listen = change.listen.filter(|listen| !listen.is_empty());
    let upstream = change.upstream.filter(|upstream| !upstream.is_empty());
    proxy.rewire(listen, upstream).await.map_err(internal)?;
    match change.enabled {
        Some(true) => proxy.enable().await.map_err(internal)?,
        Some(false) => proxy.disable().await,
        None => {}
    }
    Ok(Json(proxy.settings()))
}

async fn delete(State(registry): Shared, Path(name): Path<String>) -> Answer<StatusCode> {
    let mut proxy = registry.proxies.lock().await.remove(&name).ok_or_else(|| not_found("proxy"))?;
    proxy.disable().await;
    Ok(StatusCode::NO_CONTENT)
}

async fn toxics(State(registry): Shared, Path(name): Path<String>) -> Answer<Json<Vec<Toxic>>> {
    show(State(registry), Path(name)).await.map(|Json(settings)| Json(settings.toxics))
}

/// Changes a proxy's list of toxics and returns what the change returns.
async fn edit<T>(
    registry: &Registry,
    name: &str,
    change: impl FnOnce(&mut Vec<Toxic>) -> Answer<T>,
) -> Answer<T> {
    let proxies = registry.proxies.lock().await;
    let proxy = proxies.get(name).ok_or_else(|| not_found("proxy"))?;
    let mut toxics = proxy.settings().toxics;
    let answer = change(&mut toxics)?;
    proxy.set_toxics(toxics);
    Ok(answer)
}

async fn add_toxic(State(registry): Shared, Path(name): Path<String>, body: String) -> Answer<Json<Toxic>> {
    let toxic = sound(parse(&body)?)?;
    edit(&registry, &name, |toxics| {
        if toxics.iter().any(|t| t.name == toxic.name) {
            return Err(Refusal(StatusCode::CONFLICT, "toxic already exists".into()));
        }
        toxics.push(toxic.clone());
        Ok(Json(toxic))
    })
    .await
}

async fn show_toxic(
    State(registry): Shared,
    Path((name, toxic)): Path<(String, String)>,
) -> Answer<Json<Toxic>> {
    let Json(list) = toxics(State(registry), Path(name)).await?;
    list.into_iter().find(|t| t.name == toxic).map(Json).ok_or_else(|| not_found("toxic"))
}

async fn update_toxic(
    State(registry): Shared,
    Path((name, toxic)): Path<(String, String)>,
    body: String,
) -> Answer<Json<Toxic>> {
    let change: Value = parse(&body)?;
    edit(&registry, &name, |toxics| {
        let old = toxics.iter_mut().find(|t| t.name == toxic).ok_or_else(|| not_found("toxic"))?;
        let mut merged = serde_json::to_value(&*old).map_err(bad)?;
        if let Some(toxicity) = change.get("toxicity") {
            merged["toxicity"] = toxicity.clone();
        }
        for (key, value) in change.get("attributes").and_then(Value::as_object).into_iter().flatten() {
            merged["attributes"][key] = value.clone();
        }
        *old = sound(serde_json::from_value(merged).map_err(bad)?)?;
        Ok(Json(old.clone()))
    })
    .await
}

async fn delete_toxic(
    State(registry): Shared,
    Path((name, toxic)): Path<(String, String)>,
) -> Answer<StatusCode> {
    edit(&registry, &name, |toxics| {
        let before = toxics.len();
        toxics.retain(|t| t.name != toxic);
        if toxics.len() == before { Err(not_found("toxic")) } else { Ok(StatusCode::NO_CONTENT) }
    })
    .await
}
